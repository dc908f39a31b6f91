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
    make from it.
    """

    api_version: str
    kind: str
    plural: str
    optional: bool = False
    selector: str = names.LABEL_NAME

    @property
    def group(self) -> str:
        """Empty for the core API."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version without the group."""
        return self.api_version.rpartition("/")[2]


SERVICE: Final = Kind(api_version="v1", kind="Service", plural="services")
DEPLOYMENT: Final = Kind(api_version="apps/v1", kind="Deployment", plural="deployments")
LEADER_WORKER_SET: Final = Kind(
    api_version="leaderworkerset.x-k8s.io/v1",
    kind="LeaderWorkerSet",
    plural="leaderworkersets",
    optional=True,
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

POD: Final = Kind(api_version="v1", kind="Pod", plural="pods")

OWNED: Final = (
    Kind(api_version="v1", kind="ServiceAccount", plural="serviceaccounts"),
    Kind(api_version="v1", kind="ConfigMap", plural="configmaps"),
    Kind(api_version="v1", kind="PersistentVolumeClaim", plural="persistentvolumeclaims"),
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

PLURALS: Final[Mapping[tuple[str, str], str]] = {
    (names.API_VERSION, names.KIND): names.PLURAL,
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("v1", "Event"): "events",
    **{(kind.api_version, kind.kind): kind.plural for kind in WATCHED},
}
