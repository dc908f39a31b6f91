"""Routes, pools and monitors: what leads to a service, where the cluster can hold it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.manifests import SETTINGS, service
from fakes.strict_schemas import validate
from llmservice_api import names
from llmservice_operator.capabilities import Capabilities
from llmservice_operator.checks import spec_accepted
from llmservice_operator.desired import desired
from llmservice_operator.kinds import GRPC_ROUTE, HTTP_ROUTE, INFERENCE_POOL, POD_MONITOR, Kind
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed
from llmservice_sidecar.adapters.grpc_door import SERVICES
from llmservice_sidecar.adapters.openai_request import ENDPOINTS

ALL = (HTTP_ROUTE, GRPC_ROUTE, INFERENCE_POOL, POD_MONITOR)
GATEWAY: dict[str, Any] = {"parentRefs": [{"name": "gw", "namespace": "gateways"}]}
POOL: dict[str, Any] = {"inferencePool": {"endpointPickerRef": {"name": "picker"}}}


def serving(*kinds: Kind) -> Capabilities:
    return Capabilities(frozenset((kind.api_version, kind.kind) for kind in kinds))


def made(*kinds: Kind, **spec: Any) -> dict[str, Manifest]:
    """The optional objects by kind; each is one that an API server would take."""
    manifests = desired(service(**spec), SETTINGS, serving(*kinds))
    optional = {kind.kind for kind in ALL}
    found = {manifest["kind"]: manifest for manifest in manifests if manifest["kind"] in optional}
    for manifest in found.values():
        validate(manifest)
    return found


def backend_of(route: Manifest, path: str) -> Manifest:
    """Where the route leads a path; the longest match wins, as the Gateway API has it."""
    matches = [
        (len(match["path"]["value"]), rule["backendRefs"][0])
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
        if path == match["path"]["value"]
        or (match["path"]["type"] == "PathPrefix" and path.startswith(f"{match['path']['value']}/"))
    ]
    return max(matches, key=lambda found: found[0])[1] if matches else {}


def test_without_a_router_nothing_is_made() -> None:
    assert made(*ALL) == {}


def test_one_host_name_serves_http_and_grpc() -> None:
    found = made(*ALL, router=GATEWAY | {"hostnames": ["llm.example.com"]})
    assert found.keys() == {"HTTPRoute"}
    route = found["HTTPRoute"]
    assert route["spec"]["parentRefs"] == [{"name": "gw", "namespace": "gateways"}]
    assert route["spec"]["hostnames"] == ["llm.example.com"]
    for path in (*ENDPOINTS, "/v1/models", "/tokenize", "/health"):
        assert backend_of(route, path)["port"] == names.PORT_HTTP, path
    for name in SERVICES:
        assert backend_of(route, f"/{name}/Method")["port"] == names.PORT_GRPC, name


@pytest.mark.parametrize("path", ["/metrics", "/status", "/drain", "/", "/v1x", "/healthz"])
def test_nothing_else_is_routed(path: str) -> None:
    assert backend_of(made(*ALL, router=GATEWAY)["HTTPRoute"], path) == {}


def test_no_gateway_cuts_a_long_stream() -> None:
    route = made(*ALL, router=GATEWAY)["HTTPRoute"]
    assert [rule["timeouts"] for rule in route["spec"]["rules"]] == [{"request": "0s"}] * 2


def test_grpc_under_a_host_name_of_its_own_has_its_own_route() -> None:
    router = GATEWAY | {"hostnames": ["llm.example.com"], "grpcHostnames": ["grpc.example.com"]}
    found = made(*ALL, router=router)
    assert found.keys() == {"HTTPRoute", "GRPCRoute"}
    spec = found["GRPCRoute"]["spec"]
    assert spec["hostnames"] == ["grpc.example.com"]
    assert spec["rules"] == [{"backendRefs": [{"name": "svc", "port": names.PORT_GRPC}]}]


def test_the_route_leads_to_the_pool_and_grpc_to_the_service() -> None:
    found = made(*ALL, router=GATEWAY | POOL)
    route = found["HTTPRoute"]
    assert backend_of(route, "/v1/models") == {
        "group": "inference.networking.k8s.io",
        "kind": "InferencePool",
        "name": "svc",
    }
    assert backend_of(route, f"/{names.GRPC_SERVICE}/Generate")["port"] == names.PORT_GRPC
    pool = found["InferencePool"]["spec"]
    assert pool["selector"] == {"matchLabels": {names.LABEL_NAME: "svc"}}
    assert pool["targetPorts"] == [{"number": names.PORT_HTTP}]
    picker = {"name": "picker", "kind": "Service", "port": {"number": 9002}}
    assert pool["endpointPickerRef"] == picker


def test_a_pool_alone_is_for_routes_that_others_write() -> None:
    assert made(*ALL, router=POOL).keys() == {"InferencePool"}


def test_of_a_replica_over_several_nodes_only_the_leader_is_in_the_pool() -> None:
    several = desired(
        service(router=POOL, parallelism={"nodes": 2, "tensor": 2}),
        SETTINGS,
        Capabilities(
            frozenset(
                {
                    ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
                    (INFERENCE_POOL.api_version, INFERENCE_POOL.kind),
                }
            )
        ),
    )
    (pool,) = (manifest for manifest in several if manifest["kind"] == "InferencePool")
    assert names.LABEL_WORKER_INDEX in pool["spec"]["selector"]["matchLabels"]


def test_where_there_are_no_pools_the_route_leads_to_the_service_and_status_says_so() -> None:
    router = GATEWAY | POOL
    found = made(HTTP_ROUTE, router=router)
    assert found.keys() == {"HTTPRoute"}
    assert backend_of(found["HTTPRoute"], "/v1/models")["port"] == names.PORT_HTTP
    observed = Observed(capabilities=serving(HTTP_ROUTE))
    verdict = spec_accepted(service(router=router), observed)
    assert (verdict.status, verdict.finding.reason) == ("True", "MissingKind")
    assert "spec.router.inferencePool needs InferencePool (inference.networking.k8s.io/v1)" in (
        verdict.finding.message
    )


def test_everything_that_is_missing_is_named() -> None:
    router = GATEWAY | POOL | {"hostnames": ["a.example"], "grpcHostnames": ["b.example"]}
    spec: dict[str, Any] = {"router": router, "monitoring": {"podMonitor": "Enabled"}}
    assert made(**spec) == {}
    message = spec_accepted(service(**spec), Observed()).finding.message
    for kind in ALL:
        assert f"{kind.kind} ({kind.api_version})" in message
    assert spec_accepted(service(**spec), Observed(capabilities=serving(*ALL))).finding.reason == (
        "Accepted"
    )


def test_metrics_are_scraped_on_the_data_port_and_over_tls_where_it_speaks_that() -> None:
    monitored: dict[str, Any] = {"monitoring": {"podMonitor": "Enabled"}}
    (plain,) = made(*ALL, **monitored)["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert (plain["port"], plain["path"], plain["scheme"]) == ("http", "/metrics", "http")
    assert [rule["targetLabel"] for rule in plain["relabelings"]] == ["llmservice"]
    secured = monitored | {"security": {"tlsSecretRef": {"name": "pair"}}}
    (tls,) = made(*ALL, **secured)["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert tls["scheme"] == "https"
    assert tls["tlsConfig"] == {"insecureSkipVerify": True}
