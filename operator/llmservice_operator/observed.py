"""What exists of one service right now, read in one go before status is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmservice_api.status_report import StatusReport

from llmservice_operator.capabilities import NOTHING_OPTIONAL, Capabilities
from llmservice_operator.conditions import Finding
from llmservice_operator.kube_json import Manifest, section


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """The last answer of one pod's sidecar: a report, or why there is none."""

    report: StatusReport | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Live objects, the sidecars' reports by pod uid, and what went wrong while applying."""

    workload: Manifest | None = None  # the Deployment or LeaderWorkerSet
    autoscaler: Manifest | None = None  # our HorizontalPodAutoscaler or ScaledObject
    capabilities: Capabilities = NOTHING_OPTIONAL
    pods: tuple[Manifest, ...] = ()
    claims: Mapping[str, Manifest] = field(default_factory=dict[str, Manifest])  # by name
    polled: Mapping[str, Polled] = field(default_factory=dict[str, Polled])
    wakes: bool = False  # at zero replicas a request is held and wakes it
    problem: Finding | None = None  # the API server refused one of our objects

    def report_of(self, pod: Manifest) -> StatusReport | None:
        """What the pod's sidecar has told; None while it has told nothing."""
        polled = self.polled.get(pod["metadata"]["uid"])
        return None if polled is None else polled.report


def number(manifest: Manifest | None, *path: str) -> int:
    """An integer of a live object, 0 when it is absent."""
    value = section(manifest, *path[:-1]).get(path[-1])
    return value if isinstance(value, int) else 0
