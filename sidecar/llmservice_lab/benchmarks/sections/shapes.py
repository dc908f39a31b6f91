"""Who gains and who pays: by true length, and by load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from llmservice_lab.benchmarks import figures, statistics
from llmservice_lab.benchmarks.cases import FCFS, ORACLE_SJF, Case, Contender
from llmservice_lab.benchmarks.grid import NOISY, Grid
from llmservice_lab.benchmarks.markdown import cell, percent, prose, table
from llmservice_lab.benchmarks.mixes import EXAM_CHAT, REASONING
from llmservice_lab.benchmarks.plots import COLOURS, decorate, figure
from llmservice_lab.benchmarks.runner import Results, Wanted
from llmservice_lab.benchmarks.sections.section import Page, Section
from llmservice_lab.benchmarks.statistics import Estimate

LOADS: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1)
SLOTS: Final = (8, 32)
DecileFigure: TypeAlias = Literal["e2e_mean_s", "e2e_p99_s"]
DECILE_FIGURES: Final[tuple[DecileFigure, ...]] = ("e2e_mean_s", "e2e_p99_s")


def decile_cases(grid: Grid) -> list[Case]:
    """A mixed workload and a heavy tail, both nearly full."""
    return [grid.case(mix, 8, load=0.95) for mix in (EXAM_CHAT, REASONING)]


def _by_length(grid: Grid) -> list[Wanted]:
    return grid.wanted(iter(decile_cases(grid)), grid.ssjf("oracle"), grid.ssjf(NOISY))


def decile(
    results: Results, case: Case, who: Contender, number: int, figure: DecileFigure = "e2e_mean_s"
) -> Estimate:
    """A decile's mean (or p99) over FCFS's; 1 has the shortest answers, 10 the longest."""

    def seen(contender: Contender) -> list[float]:
        runs = results[case, contender]
        return [run["summary"]["by_length_decile"][number - 1][figure] for run in runs]

    return statistics.ratio(seen(who), seen(FCFS))


def _length_lines(page: Page) -> Iterator[str]:
    who = {
        "SSJF, true lengths": page.grid.ssjf("oracle"),
        "SSJF, tau 0.6": page.grid.ssjf(NOISY),
        "oracle SJF": ORACLE_SJF,
    }
    yield from prose("""
        Requests by tenths of their true answer length, the last being the longest answers; 8
        slots, load 0.95; mean end to end over FCFS's of the same tenth.
    """)
    yield page.image("deciles", about="Mean latency over FCFS by tenths of the answer length")
    yield ""
    for case in decile_cases(page.grid):
        rows = [_decile_row(page.results, case, name, each) for name, each in who.items()]
        head = (case.path.stem, "shortest", *map(str, range(2, 10)), "longest", "longest, p99")
        yield from table(head, rows)
    _draw_deciles(page, who)


def _decile_row(results: Results, case: Case, name: str, who: Contender) -> tuple[str, ...]:
    shorter = [f"{decile(results, case, who, number).value:.2f}" for number in range(1, 10)]
    longest = [decile(results, case, who, 10, figure) for figure in DECILE_FIGURES]
    return (name, *shorter, *map(cell, longest))


def _draw_deciles(page: Page, who: dict[str, Contender]) -> None:
    colours = ("SSJF", "SSJF, predicted", "oracle SJF")
    with figure(page.images / "deciles.svg", columns=2) as both:
        for axes, case in zip(both, decile_cases(page.grid), strict=True):
            for (name, each), colour in zip(who.items(), colours, strict=True):
                seen = [decile(page.results, case, each, number) for number in range(1, 11)]
                axes.plot(
                    range(1, 11), [at.value for at in seen], "o-", color=COLOURS[colour],
                    markersize=3, label=name,
                )  # fmt: skip
                axes.fill_between(
                    range(1, 11), [at.low for at in seen], [at.high for at in seen],
                    color=COLOURS[colour], alpha=0.15, linewidth=0,
                )  # fmt: skip
            axes.axhline(1, color=COLOURS["FCFS"], linewidth=1)
            axes.set_ylim(bottom=0)
            axes.set_xticks(range(1, 11))
            title = f"{case.path.stem}, {case.slots} slots, load {case.load:g}"
            decorate(axes, title=title, across="tenth by answer length", up="mean over FCFS")
        both[0].legend(loc="upper left")


def load_cases(grid: Grid) -> list[Case]:
    """One mix over loads; 1.0 and 1.1 are transients that end with the workload."""
    return [grid.case(EXAM_CHAT, slots, load=load) for slots in SLOTS for load in LOADS]


def _by_load(grid: Grid) -> list[Wanted]:
    return grid.wanted(iter(load_cases(grid)), grid.ssjf("oracle"), grid.ssjf(NOISY))


def _load_lines(page: Page) -> Iterator[str]:
    yield from prose("""
        The exam-chat mix. Loads of 1.0 and more are transients: the queue grows until the requests
        end, so their figures depend on how many there are.
    """)
    yield page.image("loads", about="Mean, p99 and p99.9 over FCFS by load")
    yield ""
    rows: list[tuple[str, ...]] = []
    for case in load_cases(page.grid):
        stake = figures.at_stake(page.results, case)
        for name, predictor in (("true", "oracle"), ("tau 0.6", NOISY)):
            ssjf = page.grid.ssjf(predictor)
            worth = stake.value >= figures.WORTH
            kept = percent(figures.share(page.results, case, ssjf)) if worth else "-"
            asked: tuple[figures.Figure, ...] = ("mean", "p99", "p999")
            ratios = [figures.ratio(page.results, case, ssjf, each) for each in asked]
            row = (str(case.slots), f"{case.load:g}", name, percent(stake), kept)
            rows.append((*row, *map(cell, ratios)))
    head = ("slots", "load", "lengths", "at stake", "share kept", "mean", "p99", "p99.9")
    yield from table(head, rows)
    _draw_loads(page)


def _draw_loads(page: Page) -> None:
    ssjf = page.grid.ssjf("oracle")
    drawn: dict[figures.Figure, tuple[str, str]] = {
        "mean": ("mean", COLOURS["SSJF"]),
        "p99": ("p99", COLOURS["oracle SJF"]),
        "p999": ("p99.9", COLOURS["other"]),
    }
    with figure(page.images / "loads.svg", columns=2) as both:
        for axes, slots in zip(both, SLOTS, strict=True):
            mine = [case for case in load_cases(page.grid) if case.slots == slots]
            for name, (words, colour) in drawn.items():
                seen = [figures.ratio(page.results, case, ssjf, name) for case in mine]
                axes.plot(
                    LOADS, [at.value for at in seen], "o-", color=colour, markersize=3, label=words
                )
                axes.fill_between(
                    LOADS, [at.low for at in seen], [at.high for at in seen],
                    color=colour, alpha=0.15, linewidth=0,
                )  # fmt: skip
            axes.axhline(1, color=COLOURS["FCFS"], linewidth=1)
            axes.set_ylim(bottom=0)
            decorate(
                axes, title=f"SSJF, true lengths, {slots} slots", across="load", up="over FCFS"
            )
        both[0].legend(loc="lower left")


BY_LENGTH: Final = Section(title="Who gains and who pays", wanted=_by_length, lines=_length_lines)
BY_LOAD: Final = Section(title="By load", wanted=_by_load, lines=_load_lines)
