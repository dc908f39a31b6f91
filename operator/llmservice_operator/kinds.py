"""The kinds of objects that a service may own. Everything that watches, lists or prunes reads it.

A new kind is a row here, a builder in `desired`, and a line in the chart's rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from llmservice_api import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of the API. An optional one is served only where its CRD is installed.

    `selector` finds the ones that may be ours; others copy the label of an object to what they
    make from it. `suffixes` are what the names of ours have after the service's: by name the API
    server finds one object at once, by label it looks at all of the namespace. A name that is
    no longer given stays here, or what has it is never deleted. None: names of all sorts.
    """

    api_version: str
    kind: str
    plural: str
    optional: bool = False
    selector: str = names.LABEL_NAME
    suffixes: tuple[str, ...] | None = ("",)

    @property
    def group(self) -> str:
        """Empty for the core API."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version without the group."""
        return self.api_version.rpartition("/")[2]

    def names_of(self, service: str) -> tuple[str | None, ...]:
        """What a service's objects of this kind are called; only None where it may be anything."""
        if self.suffixes is None:
            return (None,)
        return tuple(f"{service}{suffix}" for suffix in self.suffixes)


HEADLESS_SUFFIX: Final = "-headless"
CONFIG_SUFFIX: Final = "-config"
NODES_SUFFIX: Final = "-nodes"
ACTIVATOR_SUFFIX: Final = "-activator"

SERVICE: Final = Kind(
    api_version="v1", kind="Service", plural="services", suffixes=("", HEADLESS_SUFFIX)
)
DEPLOYMENT: Final = Kind(api_version="apps/v1", kind="Deployment", plural="deployments")
LEADER_WORKER_SET: Final = Kind(
    api_version="leaderworkerset.x-k8s.io/v1",
    kind="LeaderWorkerSet",
    plural="leaderworkersets",
    optional=True,
    suffixes=(NODES_SUFFIX,),
)
HORIZONTAL_POD_AUTOSCALER: Final = Kind(
    api_version="autoscaling/v2",
    kind="HorizontalPodAutoscaler",
    plural="horizontalpodautoscalers",
)
SCALED_OBJECT: Final = Kind(
    api_version="keda.sh/v1alpha1", kind="ScaledObject", plural="scaledobjects", optional=True
)
ENDPOINT_SLICE: Final = Kind(
    api_version="discovery.k8s.io/v1",
    kind="EndpointSlice",
    plural="endpointslices",
    # Kubernetes makes its own from our Services, with our label on them.
    selector=f"{names.LABEL_NAME},endpointslice.kubernetes.io/managed-by={names.FIELD_MANAGER}",
    suffixes=(ACTIVATOR_SUFFIX,),
)
NETWORK_POLICY: Final = Kind(
    api_version="networking.k8s.io/v1", kind="NetworkPolicy", plural="networkpolicies"
)
HTTP_ROUTE: Final = Kind(
    api_version="gateway.networking.k8s.io/v1",
    kind="HTTPRoute",
    plural="httproutes",
    optional=True,
)
GRPC_ROUTE: Final = Kind(
    api_version="gateway.networking.k8s.io/v1",
    kind="GRPCRoute",
    plural="grpcroutes",
    optional=True,
)
INFERENCE_POOL: Final = Kind(
    api_version="inference.networking.k8s.io/v1",
    kind="InferencePool",
    plural="inferencepools",
    optional=True,
)
POD_MONITOR: Final = Kind(
    api_version="monitoring.coreos.com/v1",
    kind="PodMonitor",
    plural="podmonitors",
    optional=True,
)

POD: Final = Kind(api_version="v1", kind="Pod", plural="pods", suffixes=None)

OWNED: Final = (
    Kind(api_version="v1", kind="ServiceAccount", plural="serviceaccounts"),
    Kind(api_version="v1", kind="ConfigMap", plural="configmaps", suffixes=(CONFIG_SUFFIX,)),
    Kind(
        api_version="v1",
        kind="PersistentVolumeClaim",
        plural="persistentvolumeclaims",
        suffixes=None,
    ),
    SERVICE,
    ENDPOINT_SLICE,
    NETWORK_POLICY,
    Kind(
        api_version="policy/v1",
        kind="PodDisruptionBudget",
        plural="poddisruptionbudgets",
    ),
    DEPLOYMENT,
    LEADER_WORKER_SET,
    HORIZONTAL_POD_AUTOSCALER,
    SCALED_OBJECT,
    HTTP_ROUTE,
    GRPC_ROUTE,
    INFERENCE_POOL,
    POD_MONITOR,
)
# Whose events mean: look at the service. Pods are not ours, what makes them is.
WATCHED: Final = (*OWNED, POD)

# What is not found by the name that it gets.
VARIED_NAMES: Final = frozenset(
    (kind.api_version, kind.kind) for kind in WATCHED if kind.suffixes is None
)

PLURALS: Final[Mapping[tuple[str, str], str]] = {
    (names.API_VERSION, names.KIND): names.PLURAL,
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("v1", "Event"): "events",
    **{(kind.api_version, kind.kind): kind.plural for kind in WATCHED},
}
