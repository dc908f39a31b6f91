"""From `spec.router` to routes of a gateway and the pool that an endpoint picker chooses from."""

from __future__ import annotations

from typing import Final

import msgspec
from llmservice_api import names
from llmservice_api.spec import EndpointPickerRef, ParentRef

from llmservice_operator.desired.metadata import leader_selector, metadata
from llmservice_operator.kinds import GRPC_ROUTE, HTTP_ROUTE, INFERENCE_POOL
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

# What clients ask for. Not /metrics: whoever reads it stands behind the gateway.
_HTTP_PATHS: Final = (("PathPrefix", "/v1"), ("Exact", "/tokenize"), ("Exact", "/health"))
_GRPC_SERVICES: Final = (
    names.GRPC_SERVICE,
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
)
# None at all: an answer may be queued and streamed for longer than any gateway's default. The
# sidecar's own bounds (deadline, queue timeout) end what should end.
_TIMEOUTS: Final[Manifest] = {"request": "0s"}
_PICKER_PORT: Final = 9002  # what endpoint pickers listen on unless told otherwise


def http_route(service: Service, *, pooled: bool) -> Manifest | None:
    """HTTP to the pool, where one can be, or the Service; gRPC by its paths: one host name does."""
    router = service.spec.router
    if router is None or not router.parent_refs:
        return None
    http: Manifest = {"name": service.name, "port": names.PORT_HTTP}
    if pooled and router.inference_pool is not None:
        http = {"group": INFERENCE_POOL.group, "kind": INFERENCE_POOL.kind, "name": service.name}
    grpc = {"name": service.name, "port": names.PORT_GRPC}
    prefixes = [("PathPrefix", f"/{name}") for name in _GRPC_SERVICES]
    rules = [_rule(list(_HTTP_PATHS), backend=http), _rule(prefixes, backend=grpc)]
    return {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.kind,
        "metadata": metadata(service, service.name),
        "spec": {**_attached(router.parent_refs, router.hostnames), "rules": rules},
    }


def grpc_route(service: Service) -> Manifest | None:
    """gRPC under host names of its own.

    A Gateway accepts only one of an HTTPRoute and a GRPCRoute whose host names meet.
    """
    router = service.spec.router
    if router is None or not router.parent_refs or not router.grpc_hostnames:
        return None
    backend = {"name": service.name, "port": names.PORT_GRPC}
    return {
        "apiVersion": GRPC_ROUTE.api_version,
        "kind": GRPC_ROUTE.kind,
        "metadata": metadata(service, service.name),
        "spec": {
            **_attached(router.parent_refs, router.grpc_hostnames),
            "rules": [{"backendRefs": [backend]}],
        },
    }


def inference_pool(service: Service) -> Manifest | None:
    """The replicas as a pool; the picker reads each one's metrics on the port it routes to."""
    router = service.spec.router
    if router is None or router.inference_pool is None:
        return None
    return {
        "apiVersion": INFERENCE_POOL.api_version,
        "kind": INFERENCE_POOL.kind,
        "metadata": metadata(service, service.name),
        "spec": {
            "selector": {"matchLabels": leader_selector(service)},
            "targetPorts": [{"number": names.PORT_HTTP}],
            "endpointPickerRef": _picker(router.inference_pool.endpoint_picker_ref),
        },
    }


def _picker(given: EndpointPickerRef) -> Manifest:
    picker = _said(given)
    if given.kind == "Service":
        picker.setdefault("port", {"number": _PICKER_PORT})
    return picker


def _attached(parents: tuple[ParentRef, ...], hostnames: tuple[str, ...]) -> Manifest:
    spec: Manifest = {"parentRefs": [_said(parent) for parent in parents]}
    if hostnames:
        spec["hostnames"] = list(hostnames)
    return spec


def _rule(paths: list[tuple[str, str]], *, backend: Manifest) -> Manifest:
    return {
        "matches": [{"path": {"type": kind, "value": value}} for kind, value in paths],
        "timeouts": dict(_TIMEOUTS),
        "backendRefs": [backend],
    }


def _said(given: ParentRef | EndpointPickerRef) -> Manifest:
    """The fields that are set: the others are the route's own defaults."""
    fields: Manifest = msgspec.to_builtins(given)
    return {name: value for name, value in fields.items() if value is not None}
