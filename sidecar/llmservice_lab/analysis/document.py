"""The report as a document: what `--json` writes and what the page is drawn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from llmservice_lab.analysis import breakdown, causes, pressure
from llmservice_lab.analysis.breakdown import Moment, Parts, Quantiles, quantiles
from llmservice_lab.analysis.calibration import Calibration, calibrations
from llmservice_lab.analysis.columns import Columns, columns_of
from llmservice_lab.analysis.pressure import OrderGain, Pressure
from llmservice_lab.analysis.recommend import (
    Evidence,
    Recommendation,
    leading,
    recommendations,
)
from llmservice_lab.analysis.record import Reading, Told, TracedRequest, iso
from llmservice_lab.analysis.sampling import sample_of
from llmservice_lab.analysis.slow import Slow, slow_of

SCHEMA: Final = 1
DEFAULT_LISTED: Final = 1000


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the traces read ended so."""

    outcome: str
    reason: str
    requests: int
    kept_at_their_end: int  # of these, there only because they were slow or failed


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """docs/report.md describes the fields. Durations are seconds, times ISO 8601 in UTC.

    `requests`, `completed`, `endings` and `slow` count all traces read; the other figures are of
    those that chance picked, where it picked any.
    """

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
    sampled: float | None  # of the requests that queued, those sampled by chance; None: none queued
    whole: bool  # nearly all requests are here; else `pressure` and `order_gain` cannot be told
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
    every = columns_of(requests)
    sample = sample_of(requests)
    columns = every.only(sample.judges)
    judges = [one for one, is_one in zip(requests, sample.judges, strict=True) if is_one]
    latency = _latency(columns)
    least_s = causes.usual_threshold_s(columns) if threshold_s is None else threshold_s
    slow = slow_of(requests, every, sample, threshold_s=least_s, listed=listed)
    full = pressure.pressure_of(every, whole=sample.whole)
    report = Report(
        schema=SCHEMA,
        source=reading.source,
        read=reading.told,
        since=iso(requests[0].arrived_s),
        until=iso(max(one.ended_s for one in requests)),
        services=sorted({one.service for one in requests}),
        policies=leading([one.policy for one in judges]),
        orders=leading([one.order for one in judges]),
        requests=len(requests),
        completed=int(every.completed.sum()),
        endings=_endings(requests),
        latency=latency,
        by_percentile=breakdown.by_percentile(columns),
        by_length_decile=breakdown.by_length_decile(columns),
        by_tenant=breakdown.by_tenant(judges, columns),
        over_time=breakdown.over_time(columns, iso),
        distribution=breakdown.distribution(columns),
        slow=slow,
        calibration=calibrations(judges),
        engine_spans=latency["engine_queue_s"].n,
        kept_at_their_end=sum(one.kept_at_its_end for one in requests),
        sampled=sample.share,
        whole=sample.whole,
        pressure=full,
        order_gain=pressure.order_gain(every, full.slots or 0) if sample.whole else None,
        recommendations=[],
    )
    # Traces that are all there for their end show slow requests, and no service to change.
    advice = recommendations(_evidence(report)) if sample.by_chance else []
    return msgspec.structs.replace(report, recommendations=advice)


def _evidence(report: Report) -> Evidence:
    # Of the slow ones, too, those that are there for their end would count many times over.
    by_chance = {one.cause: one.requests - one.kept_at_their_end for one in report.slow.causes}
    return Evidence(
        total=report.latency["total_s"],
        wait=report.latency["queue_s"],
        engine_queue=report.latency["engine_queue_s"],
        slow_by_cause=by_chance,
        pressure=report.pressure,
        gain=report.order_gain,
        calibration=report.calibration[0] if report.calibration else None,
        orders=report.orders,
        policies=report.policies,
        whole=report.whole,
    )


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


def _endings(requests: Sequence[TracedRequest]) -> list[Ending]:
    counts = Counter((one.outcome, one.reason) for one in requests)
    kept = Counter((one.outcome, one.reason) for one in requests if one.kept_at_its_end)
    return [
        Ending(outcome=outcome, reason=reason, requests=count, kept_at_their_end=kept[how])
        for how, count in counts.most_common()
        for outcome, reason in [how]
    ]
