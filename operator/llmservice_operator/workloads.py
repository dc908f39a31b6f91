"""Whether the workload serves, and what hinders it: figures of live objects as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from llmservice_operator.conditions import Finding, Truth
from llmservice_operator.desired import workload_kind
from llmservice_operator.desired.deployment import desired_replicas
from llmservice_operator.desired.model_source import supported
from llmservice_operator.kinds import DEPLOYMENT, LEADER_WORKER_SET
from llmservice_operator.kube_json import Manifest, condition, section
from llmservice_operator.model_reports import downloads_now
from llmservice_operator.observed import Observed, number
from llmservice_operator.pods import first_finding
from llmservice_operator.service import Service

# A LeaderWorkerSet counts a group when all of its pods are ready, and has no figure beside it.
_AVAILABLE: Final[Mapping[str, str]] = {
    DEPLOYMENT.kind: "availableReplicas",
    LEADER_WORKER_SET.kind: "readyReplicas",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workloads:
    """The judgement on the pods. `hindrance` may be there although enough replicas serve."""

    truth: Truth
    finding: Finding
    hindrance: Finding | None = None
    moving: bool = False  # pods are still being made, replaced or ended


@dataclass(frozen=True, slots=True)
class _Figures:
    wanted: int
    existing: int
    ready: int
    updated: int
    available: int
    current: bool  # its controller has seen the latest template

    @property
    def settled(self) -> bool:
        counts = {self.existing, self.ready, self.updated, self.available}
        return self.current and counts == {self.wanted}


def judge(service: Service, observed: Observed) -> Workloads:
    """The workloads' state from live objects."""
    if refused := _impossible(service, observed):
        return Workloads(truth=Truth.FALSE, finding=refused, hindrance=refused)
    if observed.problem is not None:
        problem = observed.problem
        return Workloads(truth=Truth.FALSE, finding=problem, hindrance=problem, moving=True)
    if observed.workload is None:
        kind = workload_kind(service).kind
        finding = Finding("WorkloadMissing", f"{kind} {service.workload_name} is being created")
        return Workloads(truth=Truth.FALSE, finding=finding, moving=True)
    figures = _figures(service, observed.workload)
    if figures.wanted == 0:
        return _at_zero(service, observed, figures)
    return _serving(service, observed, figures)


def _impossible(service: Service, observed: Observed) -> Finding | None:
    if not supported(service):
        return Finding("ModelNotReady", "no pods are made before the model can be reached")
    kind = workload_kind(service)
    if not observed.capabilities.serves(kind):
        text = (
            f"spec.parallelism.nodes is {service.spec.parallelism.nodes}, and the cluster does not "
            f"know {kind.plural}.{kind.group}: install LeaderWorkerSet (https://lws.sigs.k8s.io)"
        )
        return Finding("LeaderWorkerSetMissing", text)
    return None


def _figures(service: Service, workload: Manifest) -> _Figures:
    asked = desired_replicas(service)
    live = section(workload, "spec").get("replicas")
    return _Figures(
        wanted=asked if asked is not None else (1 if live is None else live),
        existing=number(workload, "status", "replicas"),
        ready=number(workload, "status", "readyReplicas"),
        updated=number(workload, "status", "updatedReplicas"),
        available=number(workload, "status", _AVAILABLE[workload["kind"]]),
        current=_current(workload),
    )


def _current(workload: Manifest) -> bool:
    if "observedGeneration" in section(workload, "status") or workload["kind"] == DEPLOYMENT.kind:
        seen = number(workload, "status", "observedGeneration")
        return seen >= number(workload, "metadata", "generation")
    # LeaderWorkerSet does not say which generation it has seen, but that it is at work.
    return condition(workload, "UpdateInProgress").get("status") != "True"


def _at_zero(service: Service, observed: Observed, figures: _Figures) -> Workloads:
    moving = not figures.settled
    if service.spec.suspend:
        finding = Finding("Suspended", "spec.suspend is true: no replica runs")
        return Workloads(truth=Truth.FALSE, finding=finding, moving=moving)
    if service.spec.scaling is not None:
        text = "scaled to zero: requests are refused until something scales it up"
        if observed.wakes:
            text = "scaled to zero: the next request is held until a replica is ready"
        finding = Finding("ScaledToZero", text)
        return Workloads(truth=Truth.TRUE, finding=finding, moving=moving)
    finding = Finding("NoReplicas", "spec.replicas is 0: nothing serves")
    return Workloads(truth=Truth.FALSE, finding=finding, moving=moving)


def _serving(service: Service, observed: Observed, figures: _Figures) -> Workloads:
    count = f"{figures.ready} of {figures.wanted} replicas are ready"
    if figures.settled:
        return Workloads(truth=Truth.TRUE, finding=Finding("AllReplicasReady", count))
    spare = _resolve(service.spec.rollout_strategy.max_unavailable, of=figures.wanted)
    enough = figures.available >= max(1, _needed(service, figures) - spare)
    hindrance = _hindrance(service, observed, enough=enough)
    if enough:
        finding = Finding("MinimumReplicasAvailable", f"{count}, enough to serve")
        return Workloads(truth=Truth.TRUE, finding=finding, hindrance=hindrance, moving=True)
    finding = hindrance or Finding("ReplicasStarting", count)
    return Workloads(truth=Truth.FALSE, finding=finding, hindrance=hindrance, moving=True)


def _needed(service: Service, figures: _Figures) -> int:
    """What has to serve: with an autoscaler not what it has just asked for beyond the least."""
    scaling = service.spec.scaling
    return figures.wanted if scaling is None else min(figures.wanted, scaling.min_replicas)


def _hindrance(service: Service, observed: Observed, *, enough: bool) -> Finding | None:
    refused = condition(observed.workload, "ReplicaFailure")
    if refused.get("status") == "True":
        message: str = refused.get("message") or "the API server refuses to create pods"
        reason = "QuotaExceeded" if "exceeded quota" in message else "PodsForbidden"
        return Finding(reason, f"Deployment {service.workload_name}: {message}")
    finding = first_finding(observed.pods, service.spec)
    if finding is not None and finding.reason == "DownloadFailed" and downloads_now(observed):
        return Finding("ModelDownloading", f"after a failure: {finding.message}")
    if finding is not None and finding.reason == "InsufficientGPUs" and enough:
        advice = (
            "the rollout waits for a GPU for its surge pod; add one, or set "
            "spec.rolloutStrategy to {maxSurge: 0, maxUnavailable: 1}"
        )
        return Finding("InsufficientGPUsForSurge", f"{advice} ({finding.message})")
    progressing = condition(observed.workload, "Progressing")
    timed_out = progressing.get("reason") == "ProgressDeadlineExceeded"
    if timed_out and (finding is None or finding.reason == "EngineLoading"):
        text = f"Deployment {service.workload_name}: {progressing.get('message')}"
        return Finding("ProgressDeadlineExceeded", text)
    return finding


def _resolve(share: int | str, *, of: int) -> int:
    """A count, or a percentage of `of` rounded down, as the Deployment controller does."""
    if isinstance(share, int):
        return share
    return int(share.removesuffix("%")) * of // 100
