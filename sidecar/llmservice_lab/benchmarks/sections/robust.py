"""What happens when predictions are worthless or biased, or when the load stays above capacity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import FCFS, ORACLE_SJF, Case, Contender
from llmservice_lab.benchmarks.grid import GARBAGE, NOISY, Grid
from llmservice_lab.benchmarks.markdown import cell, prose, table
from llmservice_lab.benchmarks.mixes import EXAM_CHAT, LMSYS_CHAT, REASONING
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.section import Page, Section

BIASED: Final = f"biased:10/{NOISY}"
OVERLOAD: Final = 1.1


def guarded(grid: Grid, predictor: str) -> Contender:
    """As deployed: predictions that rank no better than chance are not obeyed."""
    return replace(grid.ssjf(predictor), guarded=True)


def nearly_full(grid: Grid) -> Iterator[Case]:
    """Where a wrong order costs most."""
    return (case for case in grid.loaded() if case.load == 0.95)


def _garbage_wanted(grid: Grid) -> list[Wanted]:
    bad = [guarded(grid, name) for name in GARBAGE]
    return grid.wanted(nearly_full(grid), *bad, grid.ssjf(NOISY), grid.ssjf(BIASED))


def _garbage_lines(page: Page) -> Iterator[str]:
    yield from prose("""
        Load 0.95, the guard on as deployed, ratios to FCFS over *all* requests: the warm-up counts,
        since that is when a bad predictor has not been found out yet. `random` is the length of
        some other request, `inverted` gives the shortest the length of the longest, `constant` and
        `nan` say the same for everybody. The last columns: predictions of tau 0.6 and the same ten
        times too long, which must make no difference.
    """)
    head = ("mix", "slots", *(f"{name} {what}" for name in GARBAGE for what in ("mean", "p99")))
    rows = [_garbage_row(page, case) for case in nearly_full(page.grid)]
    yield from table((*head, "tau 0.6 mean", "ten times"), rows)


def _garbage_row(page: Page, case: Case) -> tuple[str, ...]:
    asked: tuple[figures.Figure, ...] = ("mean", "p99")
    bad = [
        figures.ratio(
            page.results, case, guarded(page.grid, name), figure, group="everything_s"
        ).value
        for name in GARBAGE
        for figure in asked
    ]
    honest = [
        figures.ratio(page.results, case, page.grid.ssjf(name), "mean").value
        for name in (NOISY, BIASED)
    ]
    return (case.path.stem, str(case.slots), *(f"{each:.3f}" for each in (*bad, *honest)))


def overloaded(grid: Grid) -> list[Case]:
    """More arrives than can be served, from the first request to the last."""
    return [grid.case(mix, 8, load=OVERLOAD) for mix in (EXAM_CHAT, LMSYS_CHAT, REASONING)]


def _overload_wanted(grid: Grid) -> list[Wanted]:
    return grid.wanted(iter(overloaded(grid)), grid.ssjf("oracle"), grid.ssjf(NOISY))


def _overload_lines(page: Page) -> Iterator[str]:
    who = {
        "SSJF, true lengths": page.grid.ssjf("oracle"),
        "SSJF, tau 0.6": page.grid.ssjf(NOISY),
        "oracle SJF (tail weight 0)": ORACLE_SJF,
    }
    yield from prose(f"""
        Load {OVERLOAD:g} to the end: the queue only grows. The longest wait of any request, over
        FCFS's longest: under SSJF everybody's turn comes after a time that depends on the own cost
        alone (`docs/architecture.md`); shortest first has no such bound.
    """)
    rows: list[tuple[str, ...]] = []
    for case in overloaded(page.grid):
        for name, each in who.items():
            ratios = [
                figures.ratio(page.results, case, each, "max", group="queue_wait_s"),
                figures.ratio(page.results, case, each, "p999"),
                figures.ratio(page.results, case, each, "mean"),
            ]
            fcfs_s = figures.values(page.results[case, FCFS], "max", group="queue_wait_s")
            longest = f"{max(fcfs_s):.0f} s"
            rows.append((case.path.stem, name, longest, *map(cell, ratios)))
    head = ("mix", "order", "FCFS's longest wait", "longest wait", "p99.9", "mean")
    yield from table(head, rows)


GARBAGE_SECTION: Final = Section(
    title="Predictors that are wrong", wanted=_garbage_wanted, lines=_garbage_lines
)
OVERLOAD_SECTION: Final = Section(
    title="Sustained overload", wanted=_overload_wanted, lines=_overload_lines
)
