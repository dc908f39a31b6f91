"""Bad and good examples of `spec.router` and `spec.security`."""

from __future__ import annotations

from typing import Any

from integration.operator.crd_examples import Json, bad

GATEWAY: dict[str, Any] = {"parentRefs": [{"name": "gw"}]}
PICKER: dict[str, Any] = {"inferencePool": {"endpointPickerRef": {"name": "picker"}}}
OTHER_HOSTS = ("spec.router", "must name other hosts than spec.router.hostnames")
ONLY_WITH_PARENTS = ("spec.router", "spec.router.hostnames and spec.router.grpcHostnames need")

BAD = (
    bad("a credential as tenant", "spec.queue.fairness.tenantHeader",
        "must not be a header with a credential", "spec.queue.fairness.tenantHeader",
        queue={"fairness": {"tenantHeader": "Authorization"}}),
    bad("a router without anything", "spec.router", "must have parentRefs, inferencePool or both",
        "spec.router", router={}),
    bad("hosts without a gateway", *ONLY_WITH_PARENTS, "spec.router.parentRefs",
        router=PICKER | {"hostnames": ["llm.example.com"]}),
    bad("the same host for both kinds of routes", *OTHER_HOSTS, "spec.router.grpcHostnames",
        router=GATEWAY | {"hostnames": ["a.example"], "grpcHostnames": ["a.example"]}),
    bad("a host of the other's wildcard", *OTHER_HOSTS, "spec.router.grpcHostnames",
        router=GATEWAY | {"hostnames": ["*.example"], "grpcHostnames": ["a.example"]}),
    bad("a wildcard over the other's host", *OTHER_HOSTS, "spec.router.grpcHostnames",
        router=GATEWAY | {"hostnames": ["a.example"], "grpcHostnames": ["*.example"]}),
    bad("a host for gRPC beside all hosts", *OTHER_HOSTS, "spec.router.grpcHostnames",
        router=GATEWAY | {"grpcHostnames": ["a.example"]}),
)  # fmt: skip

GOOD: dict[str, Json] = {
    "routes": {
        "router": GATEWAY
        | {"hostnames": ["a.example"], "grpcHostnames": ["b.example", "*.a.example"]}
    },
    "a pool alone": {"router": PICKER},
    "all keys of a secret": {"security": {"apiKeySecretRef": {"name": "clients"}}},
    "one key of a secret and a certificate": {
        "security": {
            "apiKeySecretRef": {"name": "clients", "key": "search"},
            "tlsSecretRef": {"name": "pair"},
        }
    },
}

# Value and the path that the refusal names.
OUT_OF_BOUNDS: tuple[tuple[Json, str], ...] = (
    ({"router": {"parentRefs": [{"namespace": "gateways"}]}}, "spec.router.parentRefs[0].name"),
    ({"router": GATEWAY | {"hostnames": ["A.example"]}}, "spec.router.hostnames[0]"),
    ({"router": {"inferencePool": {}}}, "spec.router.inferencePool.endpointPickerRef"),
    (
        {"router": {"inferencePool": {"endpointPickerRef": {"name": "a", "failureMode": "Open"}}}},
        "spec.router.inferencePool.endpointPickerRef.failureMode",
    ),
    ({"security": {"apiKeySecretRef": {}}}, "spec.security.apiKeySecretRef.name"),
    ({"security": {"apiKeySecretRef": {"name": "a", "key": "b/c"}}}, "apiKeySecretRef.key"),
    ({"security": {"tlsSecretRef": {}}}, "spec.security.tlsSecretRef.name"),
    ({"monitoring": {"podMonitor": "Yes"}}, "spec.monitoring.podMonitor"),
)
