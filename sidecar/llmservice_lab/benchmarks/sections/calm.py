"""Load 0.7, where little waits: there SSJF must not spoil what FCFS gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import Case
from llmservice_lab.benchmarks.grid import NOISY, Grid, label
from llmservice_lab.benchmarks.markdown import cell, prose, table
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.section import Page, Section

ARRIVALS: Final = ("poisson", "gamma:3")
HEAD: Final = (
    "mix", "slots", "load", "lengths",
    "mean", "p50", "p90", "p99", "p99.9", "mean first token", "tokens/s",
)  # fmt: skip


def _wanted(grid: Grid) -> list[Wanted]:
    return [
        each
        for arrivals in ARRIVALS
        for each in grid.wanted(grid.calm(arrivals), grid.ssjf("oracle"), grid.ssjf(NOISY))
    ]


def _lines(page: Page) -> Iterator[str]:
    yield from prose("""
        With Poisson arrivals there is next to nothing to gain here, and next to nothing is lost.
        Gamma gaps with a coefficient of variation of 3 make queues even at this load.
    """)
    cases = [case for arrivals in ARRIVALS for case in page.grid.calm(arrivals)]
    names = {"oracle": "true", NOISY: "tau 0.6"}
    yield from table(HEAD, [_row(page, case, each, names) for case in cases for each in names])


def _row(page: Page, case: Case, predictor: str, names: Mapping[str, str]) -> tuple[str, ...]:
    ssjf = page.grid.ssjf(predictor)
    asked: tuple[figures.Figure, ...] = ("mean", "p50", "p90", "p99", "p999")
    ratios = [figures.ratio(page.results, case, ssjf, each) for each in asked]
    ratios.append(figures.ratio(page.results, case, ssjf, "mean", group="ttft_s"))
    speed = figures.throughput(page.results, case, ssjf)
    place = (case.path.stem, str(case.slots), label(case), names[predictor])
    return (*place, *map(cell, ratios), f"{speed.value:.3f}")


SECTION: Final = Section(title="Load 0.7", wanted=_wanted, lines=_lines)
