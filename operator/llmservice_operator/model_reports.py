"""How far the model's delivery is in every pod; the least advanced replica speaks for all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from llmservice_api import names
from llmservice_api.status_report import ModelReport, StatusReport

from llmservice_operator.desired.model_fetch import fetched
from llmservice_operator.kube_json import Manifest, entries, section
from llmservice_operator.observed import Observed
from llmservice_operator.pods import is_leaving, is_ready, last_words
from llmservice_operator.service import Service

_STEP_PERCENT = 5  # a message that moved with every byte would be written as often


class Stage(IntEnum):
    """From worst to best."""

    FAILED = 0
    DOWNLOADING = 1
    DONE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One pod's delivery of what the service asks for now."""

    pod: str
    stage: Stage
    report: ModelReport | None
    cause: str = ""  # of a failure
    started: bool = True

    @property
    def percent(self) -> int | None:
        """Of the bytes, in steps; None while their number is unknown."""
        if self.report is None or self.report.total_bytes == 0:
            return None
        share = 100 * self.report.bytes // self.report.total_bytes
        return share // _STEP_PERCENT * _STEP_PERCENT

    @property
    def text(self) -> str:
        """For people."""
        if self.stage is Stage.FAILED:
            return f"pod {self.pod}: {self.cause}"
        if not self.started:
            return f"pod {self.pod} has not started to download yet"
        if self.report is None or self.percent is None:
            return f"pod {self.pod} asks for the list of files"
        size = f"{self.percent} % of {gigabytes(self.report.total_bytes)}"
        remark = f" ({self.report.message})" if self.report.message else ""
        return f"pod {self.pod} has {size}{remark}"


def deliveries(service: Service, observed: Observed) -> tuple[Delivery, ...]:
    """Those of the pods of the present template, the least advanced first."""
    current = [pod for pod in observed.pods if not is_leaving(pod) and fetched(pod, service)]
    found = [_delivery(pod, _reported(pod, observed)) for pod in current]
    return tuple(sorted(found, key=_rank))


def model_status(report: ModelReport | None) -> Manifest:
    """`bytes`, `totalBytes` and `revision` of `status.model`; empty without a download."""
    if report is None:
        return {}
    fields = {
        "bytes": report.bytes,
        "totalBytes": report.total_bytes or None,
        "revision": report.revision or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def reported_status(report: StatusReport) -> Manifest:
    """What a change of makes a service worth looking at."""
    model = report.model
    if model is None:
        return {}
    return {"phase": model.phase, "message": model.message, **model_status(model)}


def downloads_now(observed: Observed) -> bool:
    """Whether an attempt after a failed one has got as far as to move bytes."""
    told = [_reported(pod, observed) for pod in observed.pods if not is_ready(pod)]
    return any(report is not None and report.phase == "Downloading" for report in told)


def gigabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"


def _delivery(pod: Manifest, report: ModelReport | None) -> Delivery:
    name: str = pod["metadata"]["name"]
    status = _fetch_status(pod)
    done = section(status, "state", "terminated")
    if is_ready(pod) or done.get("exitCode") == 0:
        return Delivery(pod=name, stage=Stage.DONE, report=report)
    ended = done or section(status, "lastState", "terminated")
    if ended and (report is None or report.phase != "Downloading"):
        cause = last_words(ended) or f"the download ended with exit code {ended.get('exitCode')}"
        return Delivery(pod=name, stage=Stage.FAILED, report=report, cause=cause)
    started = "running" in section(status, "state")
    return Delivery(pod=name, stage=Stage.DOWNLOADING, report=report, started=started)


def _fetch_status(pod: Manifest) -> Manifest:
    statuses = entries(pod, "status", "initContainerStatuses")
    found = (each for each in statuses if each["name"] == names.CONTAINER_FETCH)
    return next(found, Manifest())


def _reported(pod: Manifest, observed: Observed) -> ModelReport | None:
    report = observed.report_of(pod)
    return None if report is None else report.model


def _rank(delivery: Delivery) -> tuple[int, int, str]:
    bytes_there = delivery.report.bytes if delivery.report else 0
    return (delivery.stage, bytes_there, delivery.pod)
