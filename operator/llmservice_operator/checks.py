"""One function per condition: service and observed state in, verdict out. No clock, no I/O."""

from __future__ import annotations

from typing import Final

from llmservice_api.sidecar_config import PredictorMode

from llmservice_operator.conditions import Finding, Truth, Verdict
from llmservice_operator.desired.optional import missing_kinds
from llmservice_operator.observed import Observed
from llmservice_operator.predictor_reports import models_by_mean, worst_report
from llmservice_operator.security_reports import secret_remark
from llmservice_operator.service import Service
from llmservice_operator.workloads import Workloads

# What does not mend itself: somebody has to change the spec or the cluster.
STALLED: Final = frozenset(
    {
        "ApplyRefused",
        "ContainerConfigError",
        "ContainerCrashLooping",
        "DownloadFailed",
        "EngineCrashLooping",
        "EngineOutOfMemory",
        "ImagePullFailed",
        "InsufficientGPUsForSurge",
        "InvalidSpec",
        "LeaderWorkerSetMissing",
        "NameConflict",
        "PersistentVolumeClaimLost",
        "PersistentVolumeClaimNotFound",
        "PodsForbidden",
        "ProgressDeadlineExceeded",
        "QuotaExceeded",
        "SidecarCrashLooping",
        "SidecarOutOfMemory",
        "UnsupportedScheme",
    }
)


def spec_accepted(service: Service, observed: Observed) -> Verdict:
    """True; MissingKind names what is asked for and needs a definition that is not installed."""
    if missing := missing_kinds(service, observed.capabilities):
        told = [f"{path} needs {kind.kind} ({kind.api_version})" for path, kind in missing]
        text = f"not in this cluster: {', '.join(told)}; install its CustomResourceDefinition"
        return Verdict("SpecAccepted", Truth.TRUE, Finding("MissingKind", text))
    text = "every field of the spec is acted on"
    return Verdict("SpecAccepted", Truth.TRUE, Finding("Accepted", text))


def workloads_ready(workloads: Workloads, observed: Observed) -> Verdict:
    """Whether enough replicas serve, with a remark on Secrets that they do not use."""
    finding = workloads.finding
    if remark := secret_remark(observed):
        finding = Finding(finding.reason, f"{finding.message}; {remark}")
    return Verdict("WorkloadsReady", workloads.truth, finding)


def predictor_ready(service: Service, observed: Observed) -> Verdict:
    """Whether the predictor of every replica answers. Never gates Ready."""
    return Verdict("PredictorReady", *_predictor(service, observed))


def predictor_calibrated(service: Service, observed: Observed) -> Verdict:
    """Whether predictions rank requests well enough to order by them. Never gates Ready."""
    return Verdict("PredictorCalibrated", *_calibration(service, observed))


def ready(service: Service, parts: tuple[Verdict, ...]) -> Verdict:
    """SpecAccepted and ModelReady and WorkloadsReady; the first that is not says why."""
    if service.spec.suspend:
        text = "spec.suspend is true: no replica runs"
        return Verdict("Ready", Truth.FALSE, Finding("Suspended", text))
    for part in parts:
        if part.status is not Truth.TRUE:
            return Verdict("Ready", part.status, part.finding)
    if parts[-1].finding.reason == "ScaledToZero":
        return Verdict("Ready", Truth.TRUE, parts[-1].finding)
    return Verdict("Ready", Truth.TRUE, Finding("Ready", parts[-1].finding.message))


def stalled(parts: tuple[Verdict, ...], workloads: Workloads) -> Verdict:
    """kstatus: whether this waits for a person."""
    findings = [workloads.hindrance] if workloads.hindrance else []
    findings += [part.finding for part in parts if part.status is not Truth.TRUE]
    for finding in findings:
        if finding.reason in STALLED:
            return Verdict("Stalled", Truth.TRUE, finding)
    return Verdict("Stalled", Truth.FALSE, Finding("NotStalled", "nothing waits for a person"))


def reconciling(stalled_verdict: Verdict, workloads: Workloads) -> Verdict:
    """kstatus: whether something is on its way."""
    if workloads.moving and stalled_verdict.status is Truth.FALSE:
        return Verdict("Reconciling", Truth.TRUE, workloads.hindrance or workloads.finding)
    text = "what exists is what the spec asks for"
    if stalled_verdict.status is Truth.TRUE:
        text = "nothing moves until the cause in Stalled is removed"
    return Verdict("Reconciling", Truth.FALSE, Finding("Settled", text))


def _predictor(service: Service, observed: Observed) -> tuple[Truth, Finding]:
    if service.spec.predictor.mode is PredictorMode.DISABLED:
        text = "spec.predictor.mode is Disabled: requests are served in arrival order"
        return Truth.TRUE, Finding("Disabled", text)
    worst = worst_report(observed)
    if worst.report is None:
        return Truth.UNKNOWN, worst.absence
    predictor = worst.report.predictor
    where = f"replica {worst.pod}: {predictor.message or predictor.state}"
    if predictor.state == "Failed":
        return Truth.FALSE, Finding("PredictorFailed", where)
    if predictor.state == "Ready":
        text = f"predictor {predictor.kind} answers"
        remark = f"; replica {worst.pod}: {predictor.message}" if predictor.message else ""
        return Truth.TRUE, Finding("PredictorLoaded", text + remark)
    return Truth.FALSE, Finding("PredictorLoading", where)


def _calibration(service: Service, observed: Observed) -> tuple[Truth, Finding]:
    if service.spec.predictor.mode is PredictorMode.DISABLED:
        return Truth.UNKNOWN, Finding("Disabled", "spec.predictor.mode is Disabled")
    worst = worst_report(observed)
    if worst.report is None:
        return Truth.UNKNOWN, worst.absence
    predictor = worst.report.predictor
    if predictor.calibrated is None:
        least = service.spec.predictor.calibration.min_samples
        return Truth.UNKNOWN, Finding(
            "TooFewSamples", f"a replica has judged fewer than {least} finished requests"
        )
    if predictor.calibrated:
        text = "predictions rank requests well enough"
        if by_mean := models_by_mean(worst.report):
            text += f", but not those of {', '.join(by_mean)}, ordered by their running mean"
        return Truth.TRUE, Finding("Calibrated", text)
    return Truth.FALSE, Finding(
        "RankCorrelationTooLow",
        f"replica {worst.pod} serves in arrival order: its predictions do not rank requests",
    )
