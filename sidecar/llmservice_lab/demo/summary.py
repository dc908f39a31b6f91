"""The demo's figures: one run object per policy, what each pass showed, and the verdict. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

from llmservice_sidecar.core.request import Outcome

from llmservice_lab.demo.figures import mean_by_row
from llmservice_lab.demo.passes import (
    CONTENDER,
    DISTURBED,
    Measurement,
    Turn,
    turns,
)
from llmservice_lab.demo.records import Record
from llmservice_lab.gains import BASELINE, GainShare, gain_shares
from llmservice_lab.results import (
    WARM_UP_SHARE,
    RequestRecord,
    RunLabels,
    RunSummary,
    quantiles,
    summarise,
)

ENGINE_QUEUE_LIMIT_S: Final = 0.050


class PassSummary(TypedDict):
    """One pass, so that a drift of the machine shows."""

    index: int
    policy: str
    predictor: str
    requests: int
    e2e_mean_s: float | None
    queue_wait_mean_s: float | None
    token_s: float


class Comparison(TypedDict):
    """The contender against the baseline, request by request."""

    e2e_mean_ratio: float
    e2e_p99_ratio: float
    faster_share: float
    slower_share: float


class Summary(TypedDict):
    """`demo/summary.json`."""

    commit: str
    seed: int
    hardware: str
    workload: str
    capacity_rps: float
    capacity_before_rps: float
    capacity_after_rps: float
    offered_rps: float
    offered_load: float
    runs: list[RunSummary]
    passes: list[PassSummary]
    comparison: Comparison
    shares: list[GainShare]
    verdict: str
    remarks: list[str]
    failures: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What the figures belong to."""

    commit: str
    seed: int
    hardware: str
    workload: str
    slots: int


def summarise_demo(
    measurement: Measurement, passes: Sequence[Sequence[Record]], provenance: Provenance
) -> Summary:
    """All figures of one demo; `passes` are the joined records of `measurement.passes`."""
    predictors = list(dict.fromkeys(one.predictor for one in measurement.passes))
    by_turn = pool(passes)
    first, contender, *_ = turns(predictors)
    runs = [
        _run(turn, passes, provenance, load=measurement.offered_load)
        for turn in turns(predictors)[: len(predictors) + 1]
    ]
    comparison = compare({BASELINE: by_turn[first], CONTENDER: by_turn[contender]})
    return Summary(
        commit=provenance.commit,
        seed=provenance.seed,
        hardware=provenance.hardware,
        workload=provenance.workload,
        capacity_rps=measurement.capacity_rps,
        capacity_before_rps=measurement.capacity_before_rps,
        capacity_after_rps=measurement.capacity_after_rps,
        offered_rps=measurement.offered_rps,
        offered_load=measurement.offered_load,
        runs=runs,
        passes=[
            _pass(records, token_s=one.token_s)
            for one, records in zip(measurement.passes, passes, strict=True)
        ],
        comparison=comparison,
        shares=gain_shares(runs),
        verdict=verdict(comparison),
        remarks=remarks(measurement),
        failures=failures(measurement, runs),
    )


def pool(passes: Sequence[Sequence[Record]]) -> dict[Turn, list[Record]]:
    """The records of all passes of a turn, the warm-up of each pass left out."""
    pooled: dict[Turn, list[Record]] = {}
    for records in passes:
        for record in records[int(len(records) * WARM_UP_SHARE) :]:
            pooled.setdefault(Turn(record.policy, record.predictor), []).append(record)
    return pooled


def by_policy(passes: Sequence[Sequence[Record]]) -> dict[str, list[Record]]:
    """The same for the passes of one predictor."""
    return {turn.policy: records for turn, records in pool(passes).items()}


def compare(pooled: dict[str, list[Record]]) -> Comparison:
    """Ratios of the contender to the baseline, and who gained: means over a policy's passes."""
    base, other = pooled[BASELINE], pooled[CONTENDER]
    before, after = mean_by_row(base), mean_by_row(other)
    faster = sum(after[row] < before[row] for row in before)
    return Comparison(
        e2e_mean_ratio=_mean(other) / _mean(base),
        e2e_p99_ratio=_p99(other) / _p99(base),
        faster_share=faster / len(before),
        slower_share=sum(after[row] > before[row] for row in before) / len(before),
    )


def verdict(comparison: Comparison) -> str:
    """One sentence: did it help?"""
    ratio = comparison["e2e_mean_ratio"]
    tail = comparison["e2e_p99_ratio"]
    against = f"mean end-to-end {ratio:.2f} x, p99 {tail:.2f} x {BASELINE}'s"
    if ratio < 1:
        return f"{CONTENDER} won this run: {against}."
    return f"{CONTENDER} did not win this run: {against}."


def remarks(measurement: Measurement) -> list[str]:
    """What a reader should know about the machine during this run."""
    found = [
        f"{label} was measured twice: the machine was disturbed" for label in measurement.repeated
    ]
    quietest_s = min(one.token_s for one in measurement.passes)
    found += [
        f"pass {one.index} {Turn(one.policy, one.predictor).label} ran on a machine "
        f"{one.token_s / quietest_s:.2f} x as slow as the quietest pass: compare with care"
        for one in measurement.passes
        if one.token_s > DISTURBED * quietest_s
    ]
    return found


def failures(measurement: Measurement, runs: Sequence[RunSummary]) -> list[str]:
    """Why the figures must not be believed; empty when they may be."""
    found: list[str] = []
    if measurement.offered_load > 1:
        found.append(
            f"offered load is {measurement.offered_load:.2f} of the capacity, above 1: the machine "
            "became slower during the run; close what else is running and start again"
        )
    for run in runs:
        wait_s = run["engine_queue_s"]["p90"]
        if wait_s is None or wait_s >= ENGINE_QUEUE_LIMIT_S:
            shown = "unknown" if wait_s is None else f"{wait_s * 1e3:.0f} ms"
            found.append(
                f"{run['policy']}: the engine's own queue wait p90 is {shown}, not below "
                f"{ENGINE_QUEUE_LIMIT_S * 1e3:.0f} ms: the order was not the gate's alone"
            )
    return found


def _run(
    turn: Turn, passes: Sequence[Sequence[Record]], provenance: Provenance, *, load: float
) -> RunSummary:
    labels = RunLabels(
        policy=turn.policy,
        predictor=turn.predictor,
        slots=provenance.slots,
        load=load,
        seed=provenance.seed,
    )
    of_policy = [
        [_as_result(record) for record in records]
        for records in passes
        if Turn(records[0].policy, records[0].predictor) == turn
    ]
    # Both passes count from their own start, so the warm-up of both is left out.
    run = summarise([record for records in of_policy for record in records], labels)
    # Two passes in one window would count their tokens twice: a rate is the mean of its passes.
    rates = [summarise(records, labels)["tokens_per_s"] or 0.0 for records in of_policy]
    run["tokens_per_s"] = math.fsum(rates) / len(rates)
    return run


def _as_result(record: Record) -> RequestRecord:
    expected_s = record.predicted_wait_s
    if expected_s is not None:
        # The gate counts from its own arrival, the figures from when the request was due.
        expected_s += record.queued_s - record.due_s
    return RequestRecord(
        arrival_s=record.due_s,
        output_tokens=record.output_tokens,
        outcome=Outcome.COMPLETED,  # a pass with another outcome has failed as a whole
        admitted_s=record.admitted_s,
        first_token_s=record.due_s + record.ttft_s,
        finished_s=record.due_s + record.e2e_s,
        predicted_tokens=record.predicted_tokens,
        engine_queue_s=record.engine_queue_s,
        predicted_wait_s=expected_s,
    )


def _pass(records: Sequence[Record], *, token_s: float) -> PassSummary:
    measured = records[int(len(records) * WARM_UP_SHARE) :]
    return PassSummary(
        index=records[0].pass_index,
        policy=records[0].policy,
        predictor=records[0].predictor,
        requests=len(measured),
        e2e_mean_s=quantiles([record.e2e_s for record in measured])["mean"],
        queue_wait_mean_s=quantiles([record.queue_wait_s for record in measured])["mean"],
        token_s=token_s,
    )


def _mean(records: Sequence[Record]) -> float:
    return math.fsum(record.e2e_s for record in records) / len(records)


def _p99(records: Sequence[Record]) -> float:
    return quantiles([record.e2e_s for record in records])["p99"] or math.inf
