"""The targets that the default policy has to meet, each with its value and `ok` or `NOT`.

`python -m llmservice_lab.benchmarks.bars [--workload FILE]... [--seeds N] [--requests N]` runs what
is missing and prints a row a setting, then the targets.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final, Literal

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import Case, Contender
from llmservice_lab.benchmarks.grid import GARBAGE, NOISY, SLOTS, Effort, Grid, label
from llmservice_lab.benchmarks.mixes import MIXES
from llmservice_lab.benchmarks.runner import Results, Wanted, collect
from llmservice_lab.benchmarks.store import Store, default_folder
from llmservice_lab.benchmarks.work import mix_of

GAMMA: Final = "gamma:3"
BLIND: Final = {"noisy:tau=0.5": 0.68, "noisy:tau=0.65": 0.76}  # tail weight 0: least share
GROUPS: Final[tuple[figures.Group, ...]] = ("e2e_s", "ttft_s")
CENTRE: Final[tuple[figures.Figure, ...]] = ("mean", "p50", "p90")
MEAN_AND_TAIL: Final[tuple[figures.Figure, ...]] = ("mean", "p99")
TAILS: Final[tuple[tuple[figures.Figure, float, float], ...]] = (
    ("p99", 1.35, 1.13),  # worst case, average
    ("p999", 1.9, 1.32),
)
BIASED: Final = f"biased:10/{NOISY}"


@dataclass(frozen=True, slots=True)
class Target:
    """A bar and what was reached. NaN is never ok."""

    name: str
    value: float
    bar: float
    side: Literal["at most", "at least"] = "at most"
    where: str = ""

    @property
    def met(self) -> bool:
        return self.value <= self.bar if self.side == "at most" else self.value >= self.bar

    @property
    def word(self) -> str:
        return "ok" if self.met else "NOT"

    def __str__(self) -> str:
        sign = "<=" if self.side == "at most" else ">="
        return (
            f"{self.word:<3} {self.name:<58} {self.value:7.3f} {sign} {self.bar:<5g} {self.where}"
        )


def wanted(grid: Grid) -> list[Wanted]:
    """All runs that the targets need."""
    oracle, noisy = grid.ssjf("oracle"), grid.ssjf(NOISY)
    return [
        *grid.wanted(grid.calm("poisson"), oracle, noisy),
        *grid.wanted(grid.calm(GAMMA), oracle, noisy),
        *grid.wanted(grid.loaded(), oracle, noisy),
        *grid.wanted(iter(_steady(grid)), *_blind()),
        *grid.wanted(_overloaded(grid), *_guarded(grid), grid.ssjf(BIASED)),
        *grid.wanted(grid.single_bursts(before=0.0), oracle),
        *grid.wanted(grid.single_bursts(before=0.1), oracle),
    ]


def targets(grid: Grid, results: Results) -> Iterator[Target]:
    """All of them, in a fixed order."""
    for predictor in ("oracle", NOISY):
        yield from _calm(grid, results, grid.ssjf(predictor))
    for predictor, least, average in (("oracle", 0.62, 0.75), (NOISY, 0.45, 0.57)):
        yield from _loaded(grid, results, grid.ssjf(predictor), least=least, average=average)
    for contender in _blind():
        shares = [share for _, share in figures.shares(results, _steady(grid), contender)]
        name = f"tail weight 0, {contender.predictor}: share, average"
        yield Target(name, _mean(shares), BLIND[contender.predictor], "at least")
    yield from _robust(grid, results)
    for before, how in ((0.0, "cold"), (0.1, "idle")):
        yield from _single(list(grid.single_bursts(before=before)), results, grid, how=how)


def _blind() -> list[Contender]:
    return [Contender(policy="SSJF", predictor=name, tail_weight=0.0) for name in BLIND]


def _guarded(grid: Grid) -> list[Contender]:
    return [replace(grid.ssjf(name), guarded=True) for name in GARBAGE]


def _steady(grid: Grid) -> list[Case]:
    """The loaded cases with Poisson arrivals."""
    return [case for case in grid.loaded() if case.arrivals == "poisson"]


def _overloaded(grid: Grid) -> Iterator[Case]:
    """Where a wrong order costs most."""
    return (case for case in grid.loaded() if case.load == 0.95)


def _calm(grid: Grid, results: Results, ssjf: Contender) -> Iterator[Target]:
    name = f"load 0.7, {ssjf.predictor}"
    poisson, bursty = list(grid.calm("poisson")), list(grid.calm(GAMMA))
    for group, figure in product(GROUPS, CENTRE):
        yield _worst(
            f"{name}: {figure} {group[:-2]}",
            [(c, figures.ratio(results, c, ssjf, figure, group=group).value) for c in poisson],
            1.02,
        )
    tails: tuple[tuple[list[Case], str, figures.Figure, float], ...] = (
        (poisson, "Poisson", "p99", 1.10),
        (poisson, "Poisson", "p999", 1.2),
        (bursty, "CV 3", "p99", 1.25),
        (bursty, "CV 3", "p999", 1.6),
    )
    for cases, kind, figure, bar in tails:
        seen = [(case, figures.ratio(results, case, ssjf, figure).value) for case in cases]
        yield _worst(f"{name}, {kind}: {figure} e2e", seen, bar)


def _loaded(
    grid: Grid, results: Results, ssjf: Contender, *, least: float, average: float
) -> Iterator[Target]:
    cases = list(grid.loaded())
    name = f"loaded, {ssjf.predictor}"
    shares = figures.shares(results, cases, ssjf)
    where, lowest = min(shares, key=lambda seen: seen[1])
    yield Target(f"{name}: share, least", lowest, least, "at least", where_of(where))
    yield Target(f"{name}: share, average", _mean([s for _, s in shares]), average, "at least")
    for figure, bar, mean_bar in TAILS:
        seen = [(case, figures.ratio(results, case, ssjf, figure).value) for case in cases]
        yield _worst(f"{name}: {figure} e2e", seen, bar)
        yield Target(f"{name}: {figure} e2e, average", _mean([v for _, v in seen]), mean_bar)
    speed = [figures.throughput(results, case, ssjf).value for case in cases]
    yield Target(f"{name}: tokens/s, least", min(speed), 0.99, "at least")


def _robust(grid: Grid, results: Results) -> Iterator[Target]:
    for contender, figure in product(_guarded(grid), MEAN_AND_TAIL):
        seen = [
            (case, figures.ratio(results, case, contender, figure, group="everything_s").value)
            for case in _overloaded(grid)
        ]
        yield _worst(f"garbage, {contender.predictor}: {figure} e2e with start-up", seen, 1.05)
    honest, biased = grid.ssjf(NOISY), grid.ssjf(BIASED)
    for figure in MEAN_AND_TAIL:
        seen = [
            (case, _between(results, case, biased, honest, figure)) for case in _overloaded(grid)
        ]
        yield _worst(f"ten times too long: {figure} e2e, distance", seen, 0.02)


def _single(cases: list[Case], results: Results, grid: Grid, *, how: str) -> Iterator[Target]:
    ssjf = grid.ssjf("oracle")
    means = [(case, figures.burst_ratio(results, case, ssjf, "burst_mean_e2e_s")) for case in cases]
    later = [(case, figures.burst_ratio(results, case, ssjf, "recovered_s")) for case in cases]
    yield _worst(f"one burst, {how}: mean e2e of its requests", means, 0.7)
    yield _worst(f"one burst, {how}: time to recover", later, 1.02)


def _between(
    results: Results, case: Case, one: Contender, other: Contender, figure: figures.Figure
) -> float:
    ours, theirs = (_mean(figures.values(results[case, each], figure)) for each in (one, other))
    return abs(ours / theirs - 1)


def _worst(name: str, seen: Sequence[tuple[Case, float]], bar: float) -> Target:
    where, value = max(seen, key=lambda pair: (math.isnan(pair[1]), pair[1]))
    return Target(name, value, bar, where=where_of(where))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def where_of(case: Case) -> str:
    """A case in few words."""
    return f"{case.path.stem}, {case.slots} slots, {label(case)}"


def setting_rows(grid: Grid, results: Results) -> Iterator[str]:
    """A line for each loaded case and predictor, then averages."""
    yield f"{'setting':<52} {'predictor':<14} stake  share  mean   p99    p99.9  (x FCFS)"
    for predictor in ("oracle", NOISY):
        ssjf = grid.ssjf(predictor)
        for case in (*grid.loaded(), *grid.calm("poisson"), *grid.calm(GAMMA)):
            cells = [figures.at_stake(results, case), figures.share(results, case, ssjf)]
            cells += [figures.ratio(results, case, ssjf, each) for each in ("mean", "p99", "p999")]
            text = "  ".join(f"{cell.value:5.2f}" for cell in cells)
            yield f"{where_of(case):<52} {predictor:<14} {text}"
        name = "share weighted by the gain at stake, loaded"
        yield f"{name:<52} {predictor:<14}        {_weighted(grid, results, ssjf):5.2f}"


def _weighted(grid: Grid, results: Results, ssjf: Contender) -> float:
    kept = figures.shares(results, grid.loaded(), ssjf)
    stakes = [figures.at_stake(results, case).value for case, _ in kept]
    gained = [stake * share for stake, (_, share) in zip(stakes, kept, strict=True)]
    return math.fsum(gained) / math.fsum(stakes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print settings and targets. 0 even where a target is missed: this reports, and no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--workload", type=Path, action="append", help="instead of the shipped mixes"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=11_120, help="a tenth of it is warm-up")
    parser.add_argument("--bursts", type=int, default=2, help="at least so many bursts in a case")
    parser.add_argument("--slots", type=int, action="append", help="8 and 32 without it")
    parser.add_argument("--costs", default="h100-7b")
    parser.add_argument("--tail-weight", type=float, default=1.0)
    options = parser.parse_args(arguments)
    seeds = tuple(range(1, options.seeds + 1))
    grid = Grid(
        mixes=[mix_of(path) for path in options.workload] if options.workload else MIXES,
        effort=Effort(requests=options.requests, bursts=options.bursts, seeds=seeds),
        slots=options.slots or SLOTS,
        costs=options.costs,
        tail_weight=options.tail_weight,
    )
    results = collect(wanted(grid), store=Store(default_folder()), on_done=show_progress)
    for line in (*setting_rows(grid, results), "", *targets(grid, results)):
        print(line)
    return 0


def show_progress(done: int, total: int) -> None:
    """One line on standard error, rewritten."""
    end = "\n" if done == total else ""
    print(f"\r{done} of {total} runs", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
