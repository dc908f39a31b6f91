"""Objects of kinds that a cluster need not have: made where they are served, else told."""

from __future__ import annotations

from llmservice_operator.capabilities import Capabilities
from llmservice_operator.desired.pod_monitor import pod_monitor
from llmservice_operator.desired.routes import grpc_route, http_route, inference_pool
from llmservice_operator.kinds import GRPC_ROUTE, HTTP_ROUTE, INFERENCE_POOL, POD_MONITOR, Kind
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service


def optional_objects(service: Service, capabilities: Capabilities) -> list[Manifest]:
    """Those that the spec asks for and the cluster can hold."""
    return [
        manifest
        for kind, _, manifest in _wanted(service, capabilities)
        if capabilities.serves(kind)
    ]


def missing_kinds(service: Service, capabilities: Capabilities) -> list[tuple[str, Kind]]:
    """Path of the spec to the kind that it asks for and the cluster does not have."""
    return [
        (path, kind)
        for kind, path, _ in _wanted(service, capabilities)
        if not capabilities.serves(kind)
    ]


def _wanted(service: Service, capabilities: Capabilities) -> list[tuple[Kind, str, Manifest]]:
    # Without pools the route leads to the Service: worse placed, but served.
    pooled = capabilities.serves(INFERENCE_POOL)
    asked = (
        (INFERENCE_POOL, "spec.router.inferencePool", inference_pool(service)),
        (HTTP_ROUTE, "spec.router.parentRefs", http_route(service, pooled=pooled)),
        (GRPC_ROUTE, "spec.router.grpcHostnames", grpc_route(service)),
        (POD_MONITOR, "spec.monitoring.podMonitor", pod_monitor(service)),
    )
    return [(kind, path, manifest) for kind, path, manifest in asked if manifest is not None]
