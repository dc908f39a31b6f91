"""All figures of two cases in seconds, for whom ratios to FCFS are not enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from llmservice_lab.benchmarks import figures, statistics
from llmservice_lab.benchmarks.cases import FCFS, ORACLE_SJF, Case, CaseRun
from llmservice_lab.benchmarks.grid import BURST, NOISY, Grid, label
from llmservice_lab.benchmarks.markdown import prose, table
from llmservice_lab.benchmarks.mixes import EXAM_CHAT, LMSYS_CHAT
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.section import Page, Section

ASKED: Final[tuple[figures.Figure, ...]] = ("mean", "p50", "p90", "p99", "p999", "max")
HEAD: Final = ("order", "of", "mean", "p50", "p90", "p99", "p99.9", "max")
GROUPS: Final[dict[figures.Group, str]] = {
    "e2e_s": "end to end",
    "ttft_s": "first token",
    "queue_wait_s": "waiting",
    "tpot_s": "per output token",
}


def cases(grid: Grid) -> list[Case]:
    """One steady, one with bursts."""
    return [
        grid.case(EXAM_CHAT, 8, load=0.95),
        grid.case(LMSYS_CHAT, 32, load=0.7, arrivals=BURST),
    ]


def _wanted(grid: Grid) -> list[Wanted]:
    return grid.wanted(iter(cases(grid)), grid.ssjf("oracle"), grid.ssjf(NOISY))


def _lines(page: Page) -> Iterator[str]:
    yield from prose("""
        Means over seeds. Slowdown is end to end over the time in the engine: 1 for who never waits.
    """)
    who = {
        "FCFS": FCFS,
        "SSJF, true lengths": page.grid.ssjf("oracle"),
        "SSJF, tau 0.6": page.grid.ssjf(NOISY),
        "oracle SJF": ORACLE_SJF,
    }
    for case in cases(page.grid):
        yield f"### {case.path.stem}, {case.slots} slots, {label(case)}"
        yield ""
        rows = [
            _row(page.results[case, each], name, group)
            for group in GROUPS
            for name, each in who.items()
        ]
        yield from table(HEAD, rows)
        yield from table(
            ("order", "tokens/s", "slowdown p99"),
            [(name, *_rates(page.results[case, each])) for name, each in who.items()],
        )


def _row(runs: Sequence[CaseRun], name: str, group: figures.Group) -> tuple[str, ...]:
    means = [statistics.mean(figures.values(runs, each, group=group)).value for each in ASKED]
    places = 4 if group == "tpot_s" else 2
    return (name, GROUPS[group], *(f"{mean:.{places}f}" for mean in means))


def _rates(runs: Sequence[CaseRun]) -> tuple[str, str]:
    speeds = [run["summary"]["tokens_per_s"] or 0.0 for run in runs]
    slowdowns = [run["slowdown_p99"] for run in runs]
    return f"{statistics.mean(speeds).value:.0f}", f"{statistics.mean(slowdowns).value:.1f}"


SECTION: Final = Section(title="In seconds", wanted=_wanted, lines=_lines)
