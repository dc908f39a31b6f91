"""`status` as one value of service, observed state, the conditions before, and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from llmservice_api import names

from llmservice_operator import checks, checks_model
from llmservice_operator.checks_scaling import scaling_ready
from llmservice_operator.conditions import (
    Condition,
    Finding,
    Truth,
    Verdict,
    encode_conditions,
    merge,
)
from llmservice_operator.desired.metadata import leader_selector
from llmservice_operator.desired.secrets import has_tls
from llmservice_operator.kube_json import Manifest
from llmservice_operator.model_reports import deliveries, model_status
from llmservice_operator.observed import Observed, number
from llmservice_operator.predictor_reports import predictor_status, worst_report
from llmservice_operator.service import Service
from llmservice_operator.workloads import Workloads, judge

_FIGURES: Final = frozenset(
    {
        "bytes",
        "samples",
        "learned",
        "tau",
        "tauLower",
        "tauUpper",
        "estimatedGainRatio",
        "coverageP50",
        "coverageP90",
    }
)
_TOLERANCE: Final = 0.05
_UNJUDGED: Final = (
    "ModelReady",
    "WorkloadsReady",
    "PredictorReady",
    "PredictorCalibrated",
    "ScalingReady",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is written to the status subresource, and whether anything is still on its way."""

    conditions: tuple[Condition, ...]
    fields: Manifest  # all of `status` but the conditions

    @property
    def settled(self) -> bool:
        """Whether the next look may take its time."""
        by_type = {condition.type: condition.status for condition in self.conditions}
        steady = {by_type["Reconciling"], by_type["Stalled"]} == {Truth.FALSE}
        return steady and by_type["WorkloadsReady"] is Truth.TRUE

    def calm_s(self, *, now: datetime) -> float:
        """For how many seconds no condition has moved."""
        newest = max(condition.since for condition in self.conditions)
        return (now - newest).total_seconds()

    def manifest(self) -> Manifest:
        """As the API has it."""
        return {**self.fields, "conditions": encode_conditions(self.conditions)}


def status(
    service: Service, observed: Observed, *, before: Sequence[Condition], now: datetime
) -> Status:
    """The status of an accepted service."""
    workloads = judge(service, observed)
    verdicts = _verdicts(service, observed, workloads)
    return Status(
        conditions=merge(before, verdicts, generation=service.generation, now=now),
        fields=_fields(service, observed, workloads),
    )


def refused_status(
    finding: Finding,
    *,
    generation: int,
    fields: Manifest,
    before: Sequence[Condition],
    now: datetime,
) -> Status:
    """The status of a spec that this operator cannot read: nothing else is judged.

    `fields` are the others of the status, as far as they are known: what runs keeps running.
    """
    waits = Finding("SpecNotAccepted", "not judged before the spec is accepted")
    verdicts = (
        Verdict("Ready", Truth.FALSE, finding),
        Verdict("SpecAccepted", Truth.FALSE, finding),
        *(Verdict(kind, Truth.UNKNOWN, waits) for kind in _UNJUDGED),
        Verdict("Reconciling", Truth.FALSE, Finding("Settled", "the spec has to change first")),
        Verdict("Stalled", Truth.TRUE, finding),
    )
    return Status(
        conditions=merge(before, verdicts, generation=generation, now=now),
        fields={**fields, "observedGeneration": generation},
    )


def worth_writing(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two statuses differ by more than figures that moved by at most 5 %."""
    old, new = dict(before), dict(after)
    lively = [(old.pop(key, {}), new.pop(key, {})) for key in ("predictor", "model")]
    return old != new or any(_moved(*pair) for pair in lively)


def _verdicts(service: Service, observed: Observed, workloads: Workloads) -> tuple[Verdict, ...]:
    gating = (
        checks.spec_accepted(service, observed),
        checks_model.model_ready(service, observed),
        checks.workloads_ready(workloads, observed),
    )
    stalled = checks.stalled(gating, workloads)
    return (
        checks.ready(service, gating),
        *gating,
        checks.predictor_ready(service, observed),
        checks.predictor_calibrated(service, observed),
        scaling_ready(service, observed),
        checks.reconciling(stalled, workloads),
        stalled,
    )


def _fields(service: Service, observed: Observed, workloads: Workloads) -> Manifest:
    host = f"{service.name}.{service.namespace}.svc"
    url = f"{'https' if has_tls(service) else 'http'}://{host}:{names.PORT_HTTP}"
    fields: Manifest = {
        "observedGeneration": service.generation,
        "replicas": number(observed.workload, "status", "replicas"),
        "readyReplicas": number(observed.workload, "status", "readyReplicas"),
        "updatedReplicas": number(observed.workload, "status", "updatedReplicas"),
        "selector": ",".join(f"{key}={value}" for key, value in leader_selector(service).items()),
        "url": url,
        "addresses": [
            {"name": "http", "url": url},
            {"name": "grpc", "url": f"{host}:{names.PORT_GRPC}"},
        ],
        "model": {"phase": _phase(workloads), **_delivered(service, observed)},
    }
    report = worst_report(observed).report
    if report is not None:
        fields["predictor"] = predictor_status(report)
    return fields


def _delivered(service: Service, observed: Observed) -> Manifest:
    told = [each.report for each in deliveries(service, observed) if each.report is not None]
    return model_status(told[0] if told else None)


def _phase(workloads: Workloads) -> str:
    hindrance = workloads.hindrance or workloads.finding
    if workloads.truth is Truth.TRUE and workloads.finding.reason != "ScaledToZero":
        return "Ready"
    if hindrance.reason == "ModelDownloading":
        return "Downloading"
    if hindrance.reason == "EngineLoading":
        return "Loading"
    return "Failed" if hindrance.reason in checks.STALLED else "Pending"


def _moved(before: Any, after: Any, *, is_figure: bool = False) -> bool:
    if is_figure:
        was, now = float(before), float(after)
        return abs(now - was) > _TOLERANCE * max(abs(was), abs(now))
    if isinstance(before, dict) and isinstance(after, dict):
        old, new = cast("Manifest", before), cast("Manifest", after)
        return old.keys() != new.keys() or any(
            _moved(old[key], value, is_figure=key in _FIGURES) for key, value in new.items()
        )
    if isinstance(before, list) and isinstance(after, list):
        olds, news = cast("list[Any]", before), cast("list[Any]", after)
        return len(olds) != len(news) or any(map(_moved, olds, news))
    return bool(before != after)
