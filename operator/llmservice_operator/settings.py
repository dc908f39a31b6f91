"""What the operator is told at its start. No Kubernetes client, no kopf."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_api import __version__, names

from llmservice_operator.defaults import NO_DEFAULTS, Defaults
from llmservice_operator.leader_election import Terms
from llmservice_operator.service import Images


def default_images() -> Images:
    """This version's own images."""
    repository = names.IMAGE_REPOSITORY
    return Images(
        sidecar=f"{repository}/sidecar:{__version__}",
        engine=f"{repository}/engine:{__version__}",
        engine_cpu=f"{repository}/engine-cpu:{__version__}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Who may reach port 9090 of pods: the operator's namespace, and those that monitor."""

    operator_namespace: str
    monitoring_namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Everything that varies between installations and tests; times in seconds."""

    images: Images = field(default_factory=default_images)
    image_pull_policy: str = "IfNotPresent"
    defaults: Defaults = NO_DEFAULTS  # for what a spec leaves out
    namespaces: tuple[str, ...] = ()  # none: the whole cluster
    lease: str = names.FIELD_MANAGER  # name of the Lease whose holder alone writes
    lease_namespace: str = "default"
    lease_terms: Terms = field(default_factory=Terms)
    liveness_port: int | None = 8080
    # An event that is missing so long, while the API server answers, means blindness. A dead
    # watch is found and made anew by kopf within 70 s.
    blind_after_s: float = 300.0
    http_port: int | None = None  # /backlog and what else machines ask for
    backlog_url: str | None = None  # where an autoscaler reaches /backlog of this operator
    neighbours: Neighbours | None = None  # whom NetworkPolicies of pods name; None: none are made
    # Which pods hold requests for services at zero replicas; no selector: none do.
    activator_namespace: str = "default"
    activator_selector: str = ""
    ops_port: int = names.PORT_OPS
    # A look is a chain of calls: once the API server is busy, more only make each look longer.
    workers: int = 2
    # Events tell earlier; these find what no event told: drift, a claim that appeared.
    settling_recheck_s: float = 5.0
    unsettled_recheck_s: float = 120.0  # at most, while nothing moves
    settled_recheck_s: float = 600.0
    resync_every_s: float = 120.0
    definitions_every_s: float = 2.0  # looks at what is served after a CRD's event
    definitions_settle_s: float = 30.0  # for so long
    poll_every_s: float = 30.0
    poll_timeout_s: float = 5.0
    poll_concurrency: int = 32
    snapshot_every_s: float = 600.0  # what predictors have learned, into a ConfigMap
    retry_first_s: float = 0.5
    retry_longest_s: float = 60.0
    look_longest_s: float = 120.0  # one look; the API server answers each call within 30 s
    # A service that events ask for without end: so many looks at once, then one every so often.
    look_burst: int = 20
    look_every_s: float = 2.0
    slow_look_s: float = 0.25  # a worker rests as long after a slower one
    rest_longest_s: float = 2.0
