"""Whether the Deployment serves, and what hinders it: figures of live objects as one value."""

from __future__ import annotations

from dataclasses import dataclass

from llmservice_operator.conditions import Finding, Truth
from llmservice_operator.desired.deployment import desired_replicas
from llmservice_operator.desired.model_source import supported
from llmservice_operator.kube_json import Manifest, condition, section
from llmservice_operator.observed import Observed, number
from llmservice_operator.pods import first_finding
from llmservice_operator.service import Service


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
    current: bool  # the Deployment's controller has seen the latest template

    @property
    def settled(self) -> bool:
        counts = {self.existing, self.ready, self.updated, self.available}
        return self.current and counts == {self.wanted}


def judge(service: Service, observed: Observed) -> Workloads:
    """The workloads' state from live objects."""
    if refused := _impossible(service):
        return Workloads(truth=Truth.FALSE, finding=refused, hindrance=refused)
    if observed.problem is not None:
        problem = observed.problem
        return Workloads(truth=Truth.FALSE, finding=problem, hindrance=problem, moving=True)
    if observed.workload is None:
        finding = Finding("WorkloadMissing", f"Deployment {service.name} is being created")
        return Workloads(truth=Truth.FALSE, finding=finding, moving=True)
    figures = _figures(service, observed.workload)
    if figures.wanted == 0:
        return _at_zero(service, figures)
    return _serving(service, observed, figures)


def _impossible(service: Service) -> Finding | None:
    if not supported(service):
        return Finding("ModelNotReady", "no pods are made before the model can be reached")
    if service.spec.parallelism.nodes > 1:
        text = "spec.parallelism.nodes: replicas over several nodes are not made in this version"
        return Finding("MultiNodeNotImplemented", text)
    return None


def _figures(service: Service, deployment: Manifest) -> _Figures:
    asked = desired_replicas(service)
    live = section(deployment, "spec").get("replicas")
    return _Figures(
        wanted=asked if asked is not None else (1 if live is None else live),
        existing=number(deployment, "status", "replicas"),
        ready=number(deployment, "status", "readyReplicas"),
        updated=number(deployment, "status", "updatedReplicas"),
        available=number(deployment, "status", "availableReplicas"),
        current=number(deployment, "status", "observedGeneration")
        >= number(deployment, "metadata", "generation"),
    )


def _at_zero(service: Service, figures: _Figures) -> Workloads:
    moving = not figures.settled
    if service.spec.suspend:
        finding = Finding("Suspended", "spec.suspend is true: no replica runs")
        return Workloads(truth=Truth.FALSE, finding=finding, moving=moving)
    if service.spec.scaling is not None:
        finding = Finding("ScaledToZero", "scaled to zero: the next request has to wait for a pod")
        return Workloads(truth=Truth.TRUE, finding=finding, moving=moving)
    finding = Finding("NoReplicas", "spec.replicas is 0: nothing serves")
    return Workloads(truth=Truth.FALSE, finding=finding, moving=moving)


def _serving(service: Service, observed: Observed, figures: _Figures) -> Workloads:
    count = f"{figures.ready} of {figures.wanted} replicas are ready"
    if figures.settled:
        return Workloads(truth=Truth.TRUE, finding=Finding("AllReplicasReady", count))
    spare = _resolve(service.spec.rollout_strategy.max_unavailable, of=figures.wanted)
    enough = figures.available >= max(1, figures.wanted - spare)
    hindrance = _hindrance(service, observed, enough=enough)
    if enough:
        finding = Finding("MinimumReplicasAvailable", f"{count}, enough to serve")
        return Workloads(truth=Truth.TRUE, finding=finding, hindrance=hindrance, moving=True)
    finding = hindrance or Finding("ReplicasStarting", count)
    return Workloads(truth=Truth.FALSE, finding=finding, hindrance=hindrance, moving=True)


def _hindrance(service: Service, observed: Observed, *, enough: bool) -> Finding | None:
    refused = condition(observed.workload, "ReplicaFailure")
    if refused.get("status") == "True":
        message: str = refused.get("message") or "the API server refuses to create pods"
        reason = "QuotaExceeded" if "exceeded quota" in message else "PodsForbidden"
        return Finding(reason, f"Deployment {service.name}: {message}")
    finding = first_finding(observed.pods, service.spec)
    if finding is not None and finding.reason == "InsufficientGPUs" and enough:
        advice = (
            "the rollout waits for a GPU for its surge pod; add one, or set "
            "spec.rolloutStrategy to {maxSurge: 0, maxUnavailable: 1}"
        )
        return Finding("InsufficientGPUsForSurge", f"{advice} ({finding.message})")
    progressing = condition(observed.workload, "Progressing")
    timed_out = progressing.get("reason") == "ProgressDeadlineExceeded"
    if timed_out and (finding is None or finding.reason == "EngineLoading"):
        text = f"Deployment {service.name}: {progressing.get('message')}"
        return Finding("ProgressDeadlineExceeded", text)
    return finding


def _resolve(share: int | str, *, of: int) -> int:
    """A count, or a percentage of `of` rounded down, as the Deployment controller does."""
    if isinstance(share, int):
        return share
    return int(share.removesuffix("%")) * of // 100
