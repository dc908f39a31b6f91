"""Routes, a pool and a monitor on a real API server; their definitions are strict fixtures."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.controlplane import ControlPlane
from fakes.live_operator import LiveOperator, View, eventually

Json = dict[str, Any]
TESTS = Path(__file__).parents[2]
CRDS = TESTS / "fixtures" / "crds"
GOLDEN = sorted((TESTS / "golden" / "manifests").glob("*.yaml"))
NAMES = ("httproutes", "grpcroutes", "inferencepools", "podmonitors")
KINDS = {"HTTPRoute", "GRPCRoute", "InferencePool", "PodMonitor", "NetworkPolicy"}
ROUTER: Json = {
    "parentRefs": [{"name": "gw", "namespace": "gateways", "sectionName": "https"}],
    "hostnames": ["llm.example.com"],
    "grpcHostnames": ["grpc.example.com"],
    "inferencePool": {"endpointPickerRef": {"name": "picker"}},
}


def manifests_of(*names: str) -> list[str]:
    return [argument for name in names for argument in ("-f", str(CRDS / f"{name}.yaml"))]


def install(plane: ControlPlane, *names: str) -> None:
    plane.kubectl("apply", "--server-side", *manifests_of(*names))
    plane.kubectl("wait", "--for=condition=Established", *manifests_of(*names), "--timeout=30s")


@pytest.fixture(scope="module")
def operator(plane: ControlPlane) -> Generator[LiveOperator]:
    """One that makes network policies, too; what was installed for it goes after it."""
    running = LiveOperator(plane, "--network-policy", "--monitoring-namespace=prometheus")
    yield running
    print(running.log.read_text()[-20_000:])
    ended = running.stop()
    plane.kubectl("delete", "--ignore-not-found", *manifests_of(*NAMES))
    assert ended == 0
    running.log.unlink()


def optional(view: View) -> set[str]:
    """The kinds of optional objects that exist."""
    kinds = ",".join((*NAMES, "networkpolicies"))
    return {item["kind"] for item in view.list(kinds)}


@pytest.mark.usefixtures("operator")
def test_routes_follow_their_definitions(plane: ControlPlane, view: View) -> None:
    view.apply(router={"parentRefs": [{"name": "gw"}]})
    eventually(
        lambda: view.reason("SpecAccepted"), until=lambda seen: seen == ("True", "MissingKind")
    )
    message = view.condition("SpecAccepted")["message"]
    assert "spec.router.parentRefs needs HTTPRoute (gateway.networking.k8s.io/v1)" in message
    install(plane, "httproutes")
    eventually(lambda: view.get("httproutes/svc"))
    eventually(lambda: view.reason("SpecAccepted"), until=lambda seen: seen == ("True", "Accepted"))


@pytest.mark.usefixtures("operator")
def test_everything_is_made_and_goes_when_it_is_no_longer_asked_for(
    plane: ControlPlane, view: View
) -> None:
    install(plane, *NAMES)
    view.apply(router=ROUTER, monitoring={"podMonitor": "Enabled"})
    eventually(lambda: optional(view), until=lambda seen: seen == KINDS)
    eventually(lambda: view.reason("SpecAccepted"), until=lambda seen: seen == ("True", "Accepted"))
    pool = view.get("inferencepools/svc")["spec"]
    assert pool["endpointPickerRef"]["port"] == {"number": 9002}
    owners = view.get("httproutes/svc")["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["LLMService"]
    view.kubectl("delete", "grpcroutes/svc")
    eventually(lambda: view.get("grpcroutes/svc"))
    view.patch("llmsvc/svc", {"spec": {"router": None, "monitoring": None}})
    eventually(lambda: optional(view), until=lambda seen: seen == {"NetworkPolicy"})


@pytest.mark.usefixtures("operator")
def test_a_secured_service_names_its_secrets_and_the_operator_reads_none(view: View) -> None:
    security = {"apiKeySecretRef": {"name": "clients"}, "tlsSecretRef": {"name": "pair"}}
    view.apply(security=security)
    eventually(view.exist)
    eventually(
        lambda: view.get("llmsvc/svc").get("status", {}).get("url", ""),
        until=lambda url: url.startswith("https://"),
    )
    volumes = view.get("deploy/svc")["spec"]["template"]["spec"]["volumes"]
    named = {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}
    assert named == {"clients", "pair"}


@pytest.mark.usefixtures("operator")
def test_definitions_accept_every_object_with_every_field(plane: ControlPlane, view: View) -> None:
    install(plane, *NAMES)
    found = [
        manifest
        for path in GOLDEN
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"] in KINDS
    ]
    assert {manifest["kind"] for manifest in found} >= KINDS - {"NetworkPolicy"}
    for manifest in found:
        manifest["metadata"]["namespace"] = view.namespace
        manifest["metadata"].pop("ownerReferences", None)
    view.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-f", "-",
        stdin=yaml.safe_dump_all(found),
    )  # fmt: skip
