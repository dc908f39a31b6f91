"""What a run shows: percentiles, deciles, throughput, rank correlation. Pure; no clock, no files.

Shared by simulator, bench and demo, so that their figures compare. The first tenth of the requests
is warm-up and excluded.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import numpy as np
from llmservice_sidecar.core.request import Outcome

WARM_UP_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """What became of one request. Times are seconds on the run's clock; None: it never happened."""

    arrival_s: float
    output_tokens: int  # the true length
    outcome: Outcome
    admitted_s: float | None = None
    first_token_s: float | None = None
    finished_s: float | None = None
    predicted_tokens: float | None = None
    engine_queue_s: float | None = None  # waited inside the engine
    predicted_wait_s: float | None = None  # from arrival to admission; of a sample that queued
    preemptions: int | None = None  # how often the engine took its KV blocks away; None: unknown


class Quantiles(TypedDict):
    """A distribution; all None when nothing was observed."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None


class LengthDecile(TypedDict):
    """A tenth of the completed requests by true length; decile 10 has the longest."""

    decile: int
    max_output_tokens: int
    requests: int
    e2e_mean_s: float
    e2e_p99_s: float


class RunSummary(TypedDict):
    """One run as it stands in JSON. Latencies are of completed requests after the warm-up."""

    policy: str
    predictor: str
    slots: int
    load: float | None
    seed: int
    requests: int
    completed: int
    rejected: int
    evicted: int
    cancelled: int
    failed: int
    e2e_s: Quantiles
    ttft_s: Quantiles
    queue_wait_s: Quantiles
    eta_error_s: Quantiles  # real minus predicted wait; below 0: sooner than foreseen
    tpot_s: Quantiles  # seconds per output token after the first
    tokens_per_s: float | None
    engine_queue_s: Quantiles
    preemptions: int | None  # by the engine, of the measured requests; None: it does not tell
    tau: float | None
    by_length_decile: list[LengthDecile]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLabels:
    """What was run."""

    policy: str
    predictor: str
    slots: int
    load: float | None
    seed: int


def summarise(
    records: Sequence[RequestRecord], labels: RunLabels, *, warm_up_share: float = WARM_UP_SHARE
) -> RunSummary:
    """The figures of one run."""
    ordered = sorted(records, key=lambda record: record.arrival_s)
    measured = ordered[int(len(ordered) * warm_up_share) :]
    done = [record for record in measured if record.outcome is Outcome.COMPLETED]
    ended = {word: sum(record.outcome is word for record in measured) for word in Outcome}
    return RunSummary(
        policy=labels.policy,
        predictor=labels.predictor,
        slots=labels.slots,
        load=labels.load,
        seed=labels.seed,
        requests=len(measured),
        completed=ended[Outcome.COMPLETED],
        rejected=ended[Outcome.REJECTED],
        evicted=ended[Outcome.EVICTED],
        cancelled=ended[Outcome.CANCELLED],
        failed=ended[Outcome.FAILED],
        e2e_s=quantiles([_after(record.finished_s, record.arrival_s) for record in done]),
        ttft_s=quantiles([_after(record.first_token_s, record.arrival_s) for record in done]),
        queue_wait_s=quantiles([_after(record.admitted_s, record.arrival_s) for record in done]),
        eta_error_s=quantiles([_eta_error_s(record) for record in done]),
        tpot_s=quantiles([_tpot(record) for record in done]),
        tokens_per_s=_tokens_per_s(ordered, measured),
        engine_queue_s=quantiles([record.engine_queue_s for record in done]),
        preemptions=_preemptions(measured),
        tau=rank_tau(
            [
                (record.predicted_tokens, record.output_tokens)
                for record in done
                if record.predicted_tokens is not None
            ]
        ),
        by_length_decile=length_deciles(done),
    )


def quantiles(values: Sequence[float | None]) -> Quantiles:
    """Mean and percentiles (linear between samples) of what was observed; None is left out."""
    seen = np.asarray([value for value in values if value is not None], dtype=np.float64)
    if not seen.size:
        return Quantiles(mean=None, p50=None, p90=None, p99=None, p999=None, max=None)
    p50, p90, p99, p999 = np.percentile(seen, [50, 90, 99, 99.9]).tolist()
    return Quantiles(
        mean=float(seen.mean()), p50=p50, p90=p90, p99=p99, p999=p999, max=float(seen.max())
    )


def length_deciles(done: Sequence[RequestRecord]) -> list[LengthDecile]:
    """End-to-end times by tenths of the true length; empty below ten requests."""
    if len(done) < 10:
        return []
    by_length = sorted(done, key=lambda record: record.output_tokens)
    deciles: list[LengthDecile] = []
    for number in range(10):
        group = by_length[number * len(done) // 10 : (number + 1) * len(done) // 10]
        e2e = quantiles([_after(record.finished_s, record.arrival_s) for record in group])
        deciles.append(
            LengthDecile(
                decile=number + 1,
                max_output_tokens=group[-1].output_tokens,
                requests=len(group),
                e2e_mean_s=e2e["mean"] or 0.0,
                e2e_p99_s=e2e["p99"] or 0.0,
            )
        )
    return deciles


def rank_tau(pairs: Sequence[tuple[float, int]]) -> float | None:
    """Kendall's tau-b of predicted against true lengths; None where it is not defined."""
    predicted = [pair[0] for pair in pairs]
    actual = [pair[1] for pair in pairs]
    if len(set(predicted)) < 2 or len(set(actual)) < 2:
        return None
    # scipy ships no types, and takes half a second to load that only this figure needs.
    stats: Any = importlib.import_module("scipy.stats")
    return float(stats.kendalltau(predicted, actual).statistic)


def _tokens_per_s(
    all_records: Sequence[RequestRecord], measured: Sequence[RequestRecord]
) -> float | None:
    """Output tokens of requests that finished between the first measured and the last arrival.

    The same window for every policy on the same arrivals: a window that ends with the last
    completion would punish whoever leaves one long request for the end.
    """
    if not measured:
        return None
    finished = [record for record in all_records if record.outcome is Outcome.COMPLETED]
    start_s, end_s = measured[0].arrival_s, measured[-1].arrival_s
    if end_s <= start_s:  # all at once: until everything is done
        end_s = max((record.finished_s or 0.0 for record in finished), default=start_s)
    if end_s <= start_s:
        return None
    tokens = sum(
        record.output_tokens
        for record in finished
        if record.finished_s is not None and start_s < record.finished_s <= end_s
    )
    return tokens / (end_s - start_s)


def _preemptions(measured: Sequence[RequestRecord]) -> int | None:
    told = [record.preemptions for record in measured if record.preemptions is not None]
    return sum(told) if told else None


def _after(moment_s: float | None, arrival_s: float) -> float | None:
    return None if moment_s is None else moment_s - arrival_s


def _eta_error_s(record: RequestRecord) -> float | None:
    if record.predicted_wait_s is None or record.admitted_s is None:
        return None
    return record.admitted_s - record.arrival_s - record.predicted_wait_s


def _tpot(record: RequestRecord) -> float | None:
    if record.finished_s is None or record.first_token_s is None or record.output_tokens < 2:
        return None
    return (record.finished_s - record.first_token_s) / (record.output_tokens - 1)
