"""Figures of a contender beside FCFS and the oracle, from the runs of all seeds. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from llmservice_lab.benchmarks import statistics
from llmservice_lab.benchmarks.cases import FCFS, ORACLE_SJF, Case, CaseRun, Contender
from llmservice_lab.benchmarks.runner import Results
from llmservice_lab.benchmarks.statistics import Estimate

Group: TypeAlias = Literal["e2e_s", "ttft_s", "queue_wait_s", "tpot_s", "everything_s"]
Figure: TypeAlias = Literal["mean", "p50", "p90", "p99", "p999", "max"]
BurstFigure: TypeAlias = Literal["burst_mean_e2e_s", "burst_p99_e2e_s", "recovered_s"]

WORTH: Final = 0.005  # of FCFS's mean: of a gain below this no share is told


def values(runs: Sequence[CaseRun], figure: Figure, *, group: Group = "e2e_s") -> list[float]:
    """One figure, a value a seed; `everything_s`: end to end, with the requests of the warm-up.

    Raises RuntimeError if a run completed nothing.
    """
    seen = [
        (run["everything_s"] if group == "everything_s" else run["summary"][group])[figure]
        for run in runs
    ]
    known = [value for value in seen if value is not None]
    if len(known) < len(seen):
        raise RuntimeError(f"a run completed no request: no {figure} of {group}")
    return known


def ratio(
    results: Results, case: Case, contender: Contender, figure: Figure, *, group: Group = "e2e_s"
) -> Estimate:
    """Contender over FCFS, paired by seed."""
    return statistics.ratio(
        values(results[case, contender], figure, group=group),
        values(results[case, FCFS], figure, group=group),
    )


def share(results: Results, case: Case, contender: Contender) -> Estimate:
    """(FCFS - contender) / (FCFS - oracle SJF) of mean end-to-end latency."""
    return statistics.share(
        *(values(results[case, each], "mean") for each in (contender, FCFS, ORACLE_SJF))
    )


def shares(
    results: Results, cases: Iterable[Case], contender: Contender
) -> list[tuple[Case, float]]:
    """The share kept in each case that has something to gain."""
    worth = [case for case in cases if at_stake(results, case).value >= WORTH]
    return [(case, share(results, case, contender).value) for case in worth]


def at_stake(results: Results, case: Case) -> Estimate:
    """By which part of FCFS's mean oracle SJF is below it."""
    below = ratio(results, case, ORACLE_SJF, "mean")
    return Estimate(1 - below.value, 1 - below.high, 1 - below.low)


def throughput(results: Results, case: Case, contender: Contender) -> Estimate:
    """Tokens a second over the window of all arrivals, over FCFS's."""
    ours, theirs = (
        [run["summary"]["tokens_per_s"] or 0.0 for run in results[case, each]]
        for each in (contender, FCFS)
    )
    return statistics.ratio(ours, theirs)


def burst_ratio(results: Results, case: Case, contender: Contender, name: BurstFigure) -> float:
    """A figure of the single burst over FCFS's: means over seeds, a recovery can take no time."""
    ours, theirs = (
        [run["timeline"][name] for run in results[case, each] if run["timeline"] is not None]
        for each in (contender, FCFS)
    )
    return math.fsum(ours) / math.fsum(theirs)
