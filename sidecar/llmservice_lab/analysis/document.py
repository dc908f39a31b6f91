"""The report as a document: what `--json` writes and what the page is drawn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from llmservice_lab.analysis import breakdown, causes, pressure
from llmservice_lab.analysis.breakdown import Moment, Parts, Quantiles, quantiles
from llmservice_lab.analysis.calibration import Calibration, calibrations
from llmservice_lab.analysis.causes import Cause, Explained, Explainer, Numbers, Usual
from llmservice_lab.analysis.columns import Columns, columns_of
from llmservice_lab.analysis.pressure import OrderGain, Pressure
from llmservice_lab.analysis.recommend import (
    Evidence,
    Recommendation,
    leading,
    recommendations,
)
from llmservice_lab.analysis.record import Reading, Told, TracedRequest

SCHEMA: Final = 1
DEFAULT_LISTED: Final = 1000


class Overtaker(msgspec.Struct, frozen=True, kw_only=True):
    """One that came later and ran earlier; seconds are after the arrival of the overtaken."""

    request_id: str
    arrived_after_s: float
    ran_after_s: float | None
    predicted_tokens: float | None
    actual_tokens: int | None


class SlowRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One slow request with its cause, its seconds by cause and the numbers behind."""

    request_id: str
    trace_id: str
    arrived: str  # ISO 8601, UTC
    cause: Cause
    total_s: float
    queue_s: float
    prefill_s: float | None
    decode_s: float | None
    client_stall_s: float | None
    tenant: str | None
    model: str
    prompt_tokens: int | None
    predicted_tokens: float | None
    actual_tokens: int | None
    outcome: str
    reason: str
    seconds: dict[Cause, float]
    numbers: Numbers
    overtaken_by: int
    overtakers: Sequence[Overtaker]  # the first eight, as far as their traces were kept


class CauseCount(msgspec.Struct, frozen=True, kw_only=True):
    """The slow requests of one cause; `seconds` is what this cause took of all slow requests."""

    cause: Cause
    requests: int
    seconds: float


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests ended so."""

    outcome: str
    reason: str
    requests: int


class Slow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests slower than the threshold, and those refused or failed; the worst are listed."""

    threshold_s: float
    requests: int
    usual: Usual
    causes: Sequence[CauseCount]
    listed: Sequence[SlowRequest]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """docs/report.md describes the fields. Durations are seconds, times ISO 8601 in UTC."""

    schema: int
    source: str
    read: Told
    since: str
    until: str
    services: Sequence[str]
    policies: dict[str, int]
    orders: dict[str, int]
    requests: int
    completed: int
    endings: Sequence[Ending]
    latency: dict[str, Quantiles]
    by_percentile: Sequence[Parts]
    by_length_decile: Sequence[Parts]
    by_tenant: Sequence[Parts]
    over_time: Sequence[Moment]
    distribution: Sequence[tuple[float, float]]  # seconds, share answered within them
    slow: Slow
    calibration: Sequence[Calibration]
    engine_spans: int  # head-sampled requests, whose engine told of its own queue
    kept_at_their_end: int  # slow or failed ones that the head had not sampled: no engine's span
    pressure: Pressure
    order_gain: OrderGain | None
    recommendations: Sequence[Recommendation]


def analyse(
    reading: Reading, *, threshold_s: float | None = None, listed: int = DEFAULT_LISTED
) -> Report:
    """The report of a reading with at least one request.

    `threshold_s`: slower counts as slow (default: the slowest twentieth). `listed`: how many slow
    requests are told one by one.
    """
    requests = reading.requests
    columns = columns_of(requests)
    latency = _latency(columns)
    slow = _slow(requests, columns, threshold_s=threshold_s, listed=listed)
    judged = calibrations(requests)
    full = pressure.pressure_of(columns)
    gain = pressure.order_gain(columns, full.slots)
    orders = leading([one.order for one in requests])
    policies = leading([one.policy for one in requests])
    evidence = Evidence(
        total=latency["total_s"],
        wait=latency["queue_s"],
        engine_queue=latency["engine_queue_s"],
        slow_by_cause={one.cause: one.requests for one in slow.causes},
        pressure=full,
        gain=gain,
        calibration=judged[0] if judged else None,
        orders=orders,
        policies=policies,
    )
    return Report(
        schema=SCHEMA,
        source=reading.source,
        read=reading.told,
        since=iso(requests[0].arrived_s),
        until=iso(max(one.ended_s for one in requests)),
        services=sorted({one.service for one in requests}),
        policies=policies,
        orders=orders,
        requests=len(requests),
        completed=int(columns.completed.sum()),
        endings=_endings(requests),
        latency=latency,
        by_percentile=breakdown.by_percentile(columns),
        by_length_decile=breakdown.by_length_decile(columns),
        by_tenant=breakdown.by_tenant(requests, columns),
        over_time=breakdown.over_time(columns, iso),
        distribution=breakdown.distribution(columns),
        slow=slow,
        calibration=judged,
        engine_spans=latency["engine_queue_s"].n,
        kept_at_their_end=sum(one.kept_at_its_end for one in requests),
        pressure=full,
        order_gain=gain,
        recommendations=recommendations(evidence),
    )


def iso(unix_s: float) -> str:
    """A point in time as ISO 8601 with milliseconds, UTC."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def _latency(columns: Columns) -> dict[str, Quantiles]:
    done = columns.completed
    named = {
        "total_s": columns.total_s,
        "queue_s": columns.wait_s,
        "predict_s": columns.predict_s,
        "first_token_s": columns.first_s - columns.arrived_s,
        "prefill_s": columns.prefill_s,
        "decode_s": columns.decode_s,
        "per_token_s": columns.per_token_s,
        "client_stall_s": columns.stall_s,
        "engine_queue_s": columns.engine_queue_s,
    }
    return {name: quantiles(values[done]) for name, values in named.items()}


def _slow(
    requests: Sequence[TracedRequest],
    columns: Columns,
    *,
    threshold_s: float | None,
    listed: int,
) -> Slow:
    least_s = causes.usual_threshold_s(columns) if threshold_s is None else threshold_s
    explainer = Explainer(requests, columns)
    refused = {"rejected", "failed"}
    slow = causes.slow_rows(columns, least_s)
    taken = set(slow)
    others = [
        row for row, one in enumerate(requests) if one.outcome in refused and row not in taken
    ]
    found = [explainer.explain(row) for row in (*slow, *others)]
    counts = Counter(one.cause for one in found)
    by_id = {one.request_id: one for one in requests}
    seconds: Counter[Cause] = Counter()
    for one in found:
        seconds.update(one.seconds)
    return Slow(
        threshold_s=least_s,
        requests=len(found),
        usual=explainer.usual,
        causes=[
            CauseCount(cause=cause, requests=count, seconds=seconds[cause])
            for cause, count in counts.most_common()
        ],
        listed=[_listed(requests[one.row], one, by_id) for one in found[:listed]],
    )


def _overtakers(one: TracedRequest, by_id: Mapping[str, TracedRequest]) -> list[Overtaker]:
    found = [by_id[name] for name in one.overtaken_by_ids if name in by_id]
    return [
        Overtaker(
            request_id=other.request_id,
            arrived_after_s=other.arrived_s - one.arrived_s,
            ran_after_s=None if other.called_s is None else other.called_s - one.arrived_s,
            predicted_tokens=other.predicted_tokens,
            actual_tokens=other.actual_tokens,
        )
        for other in found
    ]


def _listed(one: TracedRequest, why: Explained, by_id: Mapping[str, TracedRequest]) -> SlowRequest:
    return SlowRequest(
        request_id=one.request_id,
        trace_id=one.trace_id,
        arrived=iso(one.arrived_s),
        cause=why.cause,
        total_s=one.total_s,
        queue_s=one.wait_s,
        prefill_s=one.prefill_s,
        decode_s=one.decode_s,
        client_stall_s=one.client_stall_s,
        tenant=one.tenant,
        model=one.model,
        prompt_tokens=one.prompt_tokens,
        predicted_tokens=one.predicted_tokens,
        actual_tokens=one.actual_tokens,
        outcome=one.outcome,
        reason=one.reason,
        seconds=why.seconds,
        numbers=why.numbers,
        overtaken_by=one.overtaken_by,
        overtakers=_overtakers(one, by_id),
    )


def _endings(requests: Sequence[TracedRequest]) -> list[Ending]:
    counts = Counter((one.outcome, one.reason) for one in requests)
    return [
        Ending(outcome=outcome, reason=reason, requests=count)
        for (outcome, reason), count in counts.most_common()
    ]
