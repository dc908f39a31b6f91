"""KEDA and LeaderWorkerSet as they come into a cluster that the operator already works in.

Neither can be installed here: their definitions are fixtures with the fields that are set, and what
their controllers would write is written by the tests.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.controlplane import ControlPlane
from fakes.live_operator import LiveOperator, View, eventually
from fakes.live_pods import SharedSidecar, make_all_ready
from llmservice_api import names

pytestmark = pytest.mark.slow

Json = dict[str, Any]
TESTS = Path(__file__).parents[2]
CRDS = TESTS / "fixtures" / "crds"
GOLDEN = sorted((TESTS / "golden" / "manifests").glob("*.yaml"))
ADDRESS = "127.0.9.92"
SCALING = {"minReplicas": 0, "maxReplicas": 3, "idleSeconds": 60}
TWO_NODES: Json = {"engine": {"device": "GPU"}, "parallelism": {"pipeline": 2, "nodes": 2}}


@pytest.fixture(scope="module")
def operator(plane: ControlPlane) -> Generator[LiveOperator]:
    """An operator that knows where KEDA would reach it."""
    running = LiveOperator(plane, "--backlog-url=http://operator.system.svc:8081/backlog")
    yield running
    log = running.log.read_text()
    print(log[-60_000:])
    assert running.stop() == 0
    assert "Unresolved resources" not in log, "kinds that are optional are no reason to warn"
    running.log.unlink()


def install(plane: ControlPlane, name: str) -> None:
    plane.kubectl("apply", "--server-side", "-f", str(CRDS / f"{name}.yaml"))
    plane.kubectl(
        "wait", "--for=condition=Established", "-f", str(CRDS / f"{name}.yaml"), "--timeout=30s"
    )


@pytest.fixture
def keda(plane: ControlPlane) -> Generator[None]:
    install(plane, "scaledobjects")
    yield
    plane.kubectl("delete", "-f", str(CRDS / "scaledobjects.yaml"))


@pytest.fixture
def leader_worker_sets(plane: ControlPlane) -> Generator[None]:
    install(plane, "leaderworkersets")
    yield
    plane.kubectl("delete", "-f", str(CRDS / "leaderworkersets.yaml"))


def writers(view: View, target: str) -> set[str]:
    """Who says how many replicas there are."""
    live = view.get(target, "--show-managed-fields")
    return {
        entry["manager"]
        for entry in live["metadata"]["managedFields"]
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }


def tell(view: View, target: str, status: Json) -> None:
    """What a controller writes about its object."""
    view.patch(target, {"status": status}, "--subresource=status")


def said(kind: str, truth: str, reason: str) -> Json:
    return {"type": kind, "status": truth, "reason": reason, "message": f"{kind} is {truth}"}


@pytest.mark.usefixtures("operator")
def test_keda_takes_over_when_it_is_installed_and_gives_back_when_it_goes(
    plane: ControlPlane, view: View
) -> None:
    view.apply(scaling=SCALING)
    eventually(lambda: view.get("hpa/svc"))
    view.kubectl("scale", "deploy/svc", "--replicas=2")
    install(plane, "scaledobjects")
    try:
        eventually(lambda: view.get("scaledobject/svc"))
        eventually(lambda: view.get("hpa/svc"), until=lambda seen: not seen)
        assert view.get("deploy/svc")["spec"]["replicas"] == 2
        assert names.FIELD_MANAGER not in writers(view, "deploy/svc")
        foreign = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            # As KEDA makes it: with the labels of its ScaledObject.
            "metadata": {"name": "keda-hpa-svc", "labels": {names.LABEL_NAME: "svc"}},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"},
                "maxReplicas": 3,
            },
        }
        view.kubectl("create", "-f", "-", stdin=yaml.safe_dump(foreign))
        conditions = [said("Ready", "True", "Ready"), said("Active", "True", "ScalerActive")]
        tell(view, "scaledobject/svc", {"conditions": conditions})
        eventually(
            lambda: view.reason("ScalingReady"),
            until=lambda seen: seen == ("True", "ScalingActive"),
        )
        view.patch("llmsvc/svc", {"spec": {"suspend": True}})
        eventually(lambda: view.get("scaledobject/svc"), until=lambda seen: not seen)
        eventually(lambda: view.get("deploy/svc")["spec"]["replicas"], until=lambda n: n == 0)
        view.patch("llmsvc/svc", {"spec": {"suspend": False}})
        eventually(lambda: view.get("scaledobject/svc"))
        assert view.get("deploy/svc")["spec"]["replicas"] == 1
        assert view.get("hpa/keda-hpa-svc"), "what KEDA makes is not ours to delete"
    finally:
        plane.kubectl("delete", "-f", str(CRDS / "scaledobjects.yaml"))
    eventually(lambda: view.get("hpa/svc"), within_s=60)


@pytest.mark.usefixtures("operator")
def test_several_nodes_wait_for_leader_worker_set_and_then_run(
    plane: ControlPlane, view: View
) -> None:
    view.apply(**TWO_NODES, replicas=1)
    eventually(
        lambda: view.reason("WorkloadsReady"),
        until=lambda seen: seen == ("False", "LeaderWorkerSetMissing"),
    )
    assert view.get("service/svc"), "the address is there before anybody answers"
    install(plane, "leaderworkersets")
    try:
        eventually(lambda: view.get("lws/svc-nodes"))
        _live_through_its_status(view)
        _scaled(view)
        _rolled_out(view)
    finally:
        plane.kubectl("delete", "-f", str(CRDS / "leaderworkersets.yaml"))


def _live_through_its_status(view: View) -> None:
    conditions = [said("Available", "True", "AllGroupsReady")]
    figures = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "conditions": conditions}
    tell(view, "lws/svc-nodes", figures)
    eventually(lambda: view.reason("Ready"), until=lambda seen: seen == ("True", "Ready"))
    status = view.get("llmsvc/svc")["status"]
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    assert status["selector"].endswith(f",{names.LABEL_WORKER_INDEX}=0")


def _scaled(view: View) -> None:
    view.kubectl("scale", "llmsvc/svc", "--replicas=2")
    eventually(lambda: view.get("lws/svc-nodes")["spec"]["replicas"], until=lambda n: n == 2)
    view.patch("llmsvc/svc", {"spec": {"replicas": None, "scaling": {"maxReplicas": 4}}})
    eventually(lambda: view.get("hpa/svc"))
    assert view.get("hpa/svc")["spec"]["scaleTargetRef"]["kind"] == "LeaderWorkerSet"
    eventually(
        lambda: writers(view, "lws/svc-nodes"),
        until=lambda seen: names.FIELD_MANAGER not in seen,
    )
    assert view.get("lws/svc-nodes")["spec"]["replicas"] == 2
    view.patch("llmsvc/svc", {"spec": {"replicas": 1, "scaling": None}})
    eventually(lambda: view.get("lws/svc-nodes")["spec"]["replicas"], until=lambda n: n == 1)


def _rolled_out(view: View) -> None:
    before = view.get("lws/svc-nodes")["spec"]["leaderWorkerTemplate"]
    view.patch("llmsvc/svc", {"spec": {"engine": {"maxNumSeqs": 8}}})
    changed = eventually(
        lambda: view.get("lws/svc-nodes")["spec"]["leaderWorkerTemplate"],
        until=lambda seen: seen != before,
    )
    for role in ("leaderTemplate", "workerTemplate"):
        args = changed[role]["spec"]["containers"][0]["args"]
        assert args[args.index("--max-num-seqs") + 1] == "8"


@pytest.mark.usefixtures("operator", "keda")
def test_a_service_goes_to_zero_and_tells_keda_that_it_has_work(
    operator: LiveOperator, view: View
) -> None:
    with SharedSidecar(ADDRESS, backlog_s=12.5) as sidecar:
        view.apply(scaling=SCALING)
        eventually(lambda: view.get("scaledobject/svc"))
        told = eventually(lambda: operator.backlog(view.namespace, "svc"))
        assert told["total_backlog_seconds"] > 0, "what starts is not idle"
        eventually(lambda: make_all_ready(view, ADDRESS))
        eventually(
            lambda: operator.backlog(view.namespace, "svc").get("total_backlog_seconds"),
            until=lambda seen: seen == sidecar.backlog_s,
        )
        view.kubectl("scale", "deploy/svc", "--replicas=0")
        eventually(
            lambda: view.reason("Ready"), until=lambda seen: seen == ("True", "ScaledToZero")
        )
        eventually(
            lambda: operator.backlog(view.namespace, "svc").get("total_backlog_seconds"),
            until=lambda seen: seen == 0,
        )
        assert names.FIELD_MANAGER not in writers(view, "deploy/svc")


@pytest.mark.usefixtures("keda", "leader_worker_sets")
def test_definitions_accept_every_object_with_every_field(view: View) -> None:
    rendered = [one for path in GOLDEN for one in yaml.safe_load_all(path.read_text())]
    found = [one for one in rendered if one["kind"] in {"ScaledObject", "LeaderWorkerSet"}]
    assert {one["kind"] for one in found} == {"ScaledObject", "LeaderWorkerSet"}
    for manifest in found:
        manifest["metadata"]["namespace"] = view.namespace
        manifest["metadata"].pop("ownerReferences", None)
        view.kubectl(
            "create", "--dry-run=server", "--validate=strict", "-f", "-",
            stdin=yaml.safe_dump(manifest),
        )  # fmt: skip
