"""The condition ModelReady: whether the engine can reach the model's files."""

from __future__ import annotations

from llmservice_operator.conditions import Finding, Truth, Verdict
from llmservice_operator.desired.model_source import (
    SUPPORTED_SCHEMES,
    claim_name,
    downloads,
    image_reference,
    is_downloaded,
    needed_claims,
    scheme,
)
from llmservice_operator.kube_json import section
from llmservice_operator.model_reports import Delivery, Stage, deliveries, gigabytes
from llmservice_operator.observed import Observed, number
from llmservice_operator.pods import is_ready
from llmservice_operator.service import Service


def model_ready(service: Service, observed: Observed) -> Verdict:
    """Whether the engine can reach the model's files."""
    return Verdict("ModelReady", *_model(service, observed))


def _model(service: Service, observed: Observed) -> tuple[Truth, Finding]:
    uri = service.spec.model.uri
    if scheme(uri) not in SUPPORTED_SCHEMES:
        known = ", ".join(f"{name}://" for name in SUPPORTED_SCHEMES)
        text = f"spec.model.uri: {scheme(uri)}:// is not supported in this version; use {known}"
        return Truth.FALSE, Finding("UnsupportedScheme", text)
    if finding := _missing_claim(service, observed):
        return Truth.FALSE, finding
    if downloads(service.spec):
        return _download(service, observed)
    claim = claim_name(uri)
    if claim is not None:
        # Pending is the normal phase of a claim that is bound when its first pod is scheduled.
        phase = section(observed.claims[claim], "status").get("phase")
        return Truth.TRUE, Finding("ClaimFound", f"PersistentVolumeClaim {claim} is {phase}")
    if image_reference(uri) is not None:
        text = f"{uri} is mounted from its image; a wrong path in it ends the engine"
        return Truth.TRUE, Finding("ImageVolume", text)
    text = f"{uri} is read inside the engine's container; a wrong path ends the engine"
    return Truth.TRUE, Finding("InContainer", text)


def _missing_claim(service: Service, observed: Observed) -> Finding | None:
    for claim in needed_claims(service):
        found = observed.claims.get(claim)
        if found is None:
            text = f"spec.model: there is no PersistentVolumeClaim {claim} in {service.namespace}"
            return Finding("PersistentVolumeClaimNotFound", text)
        if section(found, "status").get("phase") == "Lost":
            text = f"PersistentVolumeClaim {claim} has lost its volume"
            return Finding("PersistentVolumeClaimLost", text)
    return None


def _download(service: Service, observed: Observed) -> tuple[Truth, Finding]:
    found = deliveries(service, observed)
    truth, finding = _judged(service, observed, found)
    if truth is Truth.FALSE and any(is_ready(pod) for pod in observed.pods):
        # Nobody is worse off than before the change: what hinders it is told, but does not gate.
        text = f"replicas of the former model serve; {finding.message}"
        return Truth.TRUE, Finding("FormerModelServes", text)
    return truth, finding


def _judged(
    service: Service, observed: Observed, found: tuple[Delivery, ...]
) -> tuple[Truth, Finding]:
    if not found:
        if observed.workload is not None and not number(observed.workload, "spec", "replicas"):
            text = "the next pod that starts downloads what it needs"
            return Truth.TRUE, Finding("DownloadsOnStart", text)
        return Truth.FALSE, Finding("Downloading", "no pod has started to download yet")
    worst, best = found[0], found[-1]
    if best.stage is Stage.DONE:
        uri = service.spec.model.uri
        what = f"{uri} is" if is_downloaded(uri) else "adapters are"
        text = f"{what} downloaded{_what(best)}"
        others = "" if worst.stage is Stage.DONE else f"; {worst.text}"
        return Truth.TRUE, Finding("Downloaded", text + others + _differing(found))
    reason = "DownloadFailed" if worst.stage is Stage.FAILED else "Downloading"
    return Truth.FALSE, Finding(reason, worst.text)


def _what(delivery: Delivery) -> str:
    report = delivery.report
    if report is None:
        return ""
    at = f" at {report.revision}" if report.revision else ""
    return f"{at}: {gigabytes(report.bytes)}"


def _differing(found: tuple[Delivery, ...]) -> str:
    """A branch that moved while each pod downloaded for itself."""
    commits = sorted({each.report.revision for each in found if each.report} - {""})
    if len(commits) < 2:
        return ""
    return f"; replicas serve different commits ({', '.join(commits)}): name one in revision"
