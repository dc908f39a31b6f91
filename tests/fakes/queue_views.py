"""A replica's view of its queue with one of everything in it."""

from __future__ import annotations

import msgspec
from llmservice_api.queue_view import (
    AheadCounts,
    GuardView,
    PredictedLength,
    QueueView,
    RunningRow,
    WaitingRow,
)
from llmservice_api.status_report import QueueReport


def running(request_id: str, *, running_s: float = 4.0, tokens: int = 84) -> RunningRow:
    """One in flight."""
    return RunningRow(
        id=request_id,
        tenant="search",
        priority=0,
        slots=1,
        prompt_tokens=120,
        waited_s=1.5,
        running_s=running_s,
        tokens=tokens,
        predicted=PredictedLength(mean=220.0, p50=210.0, p90=480.0, source="model"),
        ends_in_s=2.25,
    )


def waiting(position: int, request_id: str, **changed: object) -> WaitingRow:
    """One that waits; as the next, the slots hold it."""
    row = WaitingRow(
        id=request_id,
        tenant="search",
        priority=0,
        slots=1,
        prompt_tokens=40,
        waited_s=2.5 + position,
        predicted=PredictedLength(mean=40.0, p50=None, p90=90.0, source="prior"),
        key=[12.345],
        position=position,
        starts_in_s=2.25 + position,
        held_by="" if position else "slots",
        ahead=AheadCounts(arrived_earlier=position),
        overtaken_by=position,
        overtakable_s=3.2,
        deadline_in_s=None,
    )
    return msgspec.structs.replace(row, **changed)


def view(running: list[RunningRow], waiting: list[WaitingRow]) -> QueueView:
    """Of a replica with two slots, both in use."""
    return QueueView(
        queue=QueueReport(
            policy="SSJF",
            order="SSJF",
            queued_requests=len(waiting),
            queued_tokens=400.0,
            in_flight_slots=2,
            limit_slots=2,
            backlog_s=41.0,
            gamma_per_s=0.1,
        ),
        guard=GuardView(mode="Enforce", trusted=True, samples=300, tau=0.517),
        draining=False,
        in_flight_requests=len(running),
        in_flight=running,
        waiting=waiting,
    )


BUSY = view(
    [running("req-8f3a21"), running("req-8f3a22", running_s=75.0, tokens=911)],
    [
        waiting(0, "4dd1f1d2-6f3e-4c55-9a3b-000000000001"),
        waiting(1, "req-2", ahead=AheadCounts(smaller_key=1), overtakable_s=0.0),
        waiting(
            2,
            "req-3",
            tenant="batch\x1b[31m",
            ahead=AheadCounts(higher_priority=1, fair_share=1),
            priority=-10,
            starts_in_s=None,
            overtakable_s=None,
            deadline_in_s=12.0,
        ),
        waiting(3, "req-4", held_by="too_wide", slots=4, ahead=AheadCounts(arrived_earlier=3)),
    ],
)
