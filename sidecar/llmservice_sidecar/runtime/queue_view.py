"""The queue one by one, for people: who runs, who waits, when each starts, and why not now."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmservice_api.queue_view import (
    AheadCounts,
    GuardView,
    PredictedLength,
    QueueView,
    RunningRow,
    WaitingRow,
)
from llmservice_api.status_report import QueueReport

from llmservice_sidecar.core.foresight import Foreseen, Hold
from llmservice_sidecar.core.in_flight import Flight
from llmservice_sidecar.core.outlook import Outlook, own_key
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.limits import KV_CACHE
from llmservice_sidecar.runtime.ordering import Ordering


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is known beside the gate's own rows: the figures of all, and the time they are of."""

    now: float
    report: QueueReport
    draining: bool


def queue_view(outlook: Outlook, ordering: Ordering, moment: Moment, *, rows: int) -> QueueView:
    """At most `rows` of those who run and of those who wait."""
    guard = ordering.trust.guard
    return QueueView(
        queue=moment.report,
        guard=GuardView(
            mode=ordering.mode, trusted=guard.closed, samples=guard.samples, tau=guard.tau
        ),
        draining=moment.draining,
        in_flight_requests=outlook.running_requests,
        in_flight=[_running(outlook, flight, moment.now) for flight in outlook.flights(rows=rows)],
        waiting=[
            _waiting(outlook, foreseen, moment, position=position)
            for position, foreseen in enumerate(outlook.foresee(now=moment.now, rows=rows))
        ],
    )


def _running(outlook: Outlook, flight: Flight, now: float) -> RunningRow:
    running = flight.running
    request = running.request
    return RunningRow(
        id=request.id,
        tenant=request.tenant,
        priority=request.priority,
        slots=request.slots,
        prompt_tokens=request.prompt_tokens,
        waited_s=running.admitted_at - request.arrived_at,
        running_s=now - running.admitted_at,
        tokens=running.generated,
        predicted=_predicted(request.prediction),
        ends_in_s=outlook.left_s(flight, now=now),
        promoted=flight.promoted,
    )


def _waiting(outlook: Outlook, foreseen: Foreseen, moment: Moment, *, position: int) -> WaitingRow:
    item, now = foreseen.item, moment.now
    request = item.request
    waited_s = now - request.arrived_at
    bound_s = outlook.overtaking_bound_s(item)
    return WaitingRow(
        id=request.id,
        tenant=request.tenant,
        priority=request.priority,
        slots=request.slots,
        prompt_tokens=request.prompt_tokens,
        waited_s=waited_s,
        predicted=_predicted(request.prediction),
        key=[_number(part) for part in own_key(item)],
        position=position,
        starts_in_s=foreseen.starts_in_s,
        held_by=_held_by(foreseen.hold, moment.report.limit_reason),
        ahead=AheadCounts(**foreseen.ahead._asdict()),
        overtaken_by=outlook.overtaken_by(item),
        overtakable_s=None if bound_s is None else _number(max(bound_s - waited_s, 0.0)),
        deadline_in_s=None if request.deadline_at is None else request.deadline_at - now,
    )


def _held_by(hold: Hold | None, limit_reason: str) -> str:
    if hold is Hold.LIMIT:
        return limit_reason
    if hold is Hold.RULE:
        return KV_CACHE  # the only rule there is
    return "" if hold is None else hold.value


def _predicted(prediction: Prediction) -> PredictedLength:
    p50 = prediction.p50_tokens
    return PredictedLength(
        mean=_number(prediction.output_tokens),
        p50=None if p50 is None else _number(p50),
        p90=_number(prediction.p90_tokens),
        source=prediction.source,
    )


def _number(value: float) -> float | None:
    """None for what JSON has no word for: a predictor may say anything."""
    return value if math.isfinite(value) else None
