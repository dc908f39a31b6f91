"""One burst into an idle server: its requests, the queue, and how long it takes to recover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import FCFS, ORACLE_SJF, Case, CaseRun, Contender
from llmservice_lab.benchmarks.grid import NOISY, Grid
from llmservice_lab.benchmarks.markdown import prose, table
from llmservice_lab.benchmarks.mixes import EXAM_CHAT
from llmservice_lab.benchmarks.plots import COLOURS, decorate, figure
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.section import Page, Section
from llmservice_lab.benchmarks.timeline import BIN_S, Timeline

BEFORE: Final = {0.0: "cold: nothing served before", 0.1: "idle: 300 s at load 0.1 before"}
SHOWN_S: Final = 420.0


def _wanted(grid: Grid) -> list[Wanted]:
    who = (grid.ssjf("oracle"), grid.ssjf(NOISY))
    return [
        each for before in BEFORE for each in grid.wanted(grid.single_bursts(before=before), *who)
    ]


def _lines(page: Page) -> Iterator[str]:
    yield from prose("""
        60 s at 1.5 x capacity, then 0.7 x. Mean and p99 end to end of the burst's own requests over
        FCFS's; recovered is when nobody waits for the first time after the burst, in seconds from
        its end. Where a request takes longer than a burst of a minute leaves waiting (reasoning),
        even oracle SJF gains little: the column beside ours.
    """)
    yield page.image("burst", about="Queue depth and mean latency through a burst")
    yield ""
    for before, words in BEFORE.items():
        yield f"### {words.capitalize()}"
        yield ""
        cases = page.grid.single_bursts(before=before)
        head = (
            "mix", "slots", "requests", "SSJF mean", "tau 0.6", "oracle SJF", "SSJF p99",
            "FCFS recovered", "SSJF recovered",
        )  # fmt: skip
        yield from table(head, [_row(page, case) for case in cases])
    _draw(page)


def _row(page: Page, case: Case) -> tuple[str, ...]:
    ssjf, noisy = page.grid.ssjf("oracle"), page.grid.ssjf(NOISY)
    means = [
        figures.burst_ratio(page.results, case, who, "burst_mean_e2e_s")
        for who in (ssjf, noisy, ORACLE_SJF)
    ]
    tail = figures.burst_ratio(page.results, case, ssjf, "burst_p99_e2e_s")
    recovered = [
        float(np.mean([each["recovered_s"] for each in timelines(page.results[case, who])]))
        for who in (FCFS, ssjf)
    ]
    requests = [each["burst_requests"] for each in timelines(page.results[case, FCFS])]
    return (
        case.path.stem,
        str(case.slots),
        f"{np.mean(requests):.0f}",
        *(f"{each:.2f}" for each in (*means, tail)),
        *(f"{each:.0f}" for each in recovered),
    )


def timelines(runs: Sequence[CaseRun]) -> list[Timeline]:
    """Those of a case with a single burst."""
    return [run["timeline"] for run in runs if run["timeline"] is not None]


def _draw(page: Page) -> None:
    case = next(
        case
        for case in page.grid.single_bursts(before=0.1)
        if case.path == EXAM_CHAT.path and case.slots == 32
    )
    start_s = case.single.starts_s if case.single else 0.0
    who: dict[str, Contender] = {
        "FCFS": FCFS,
        "SSJF": page.grid.ssjf("oracle"),
        "SSJF, predicted": page.grid.ssjf(NOISY),
    }
    first, last = (int(at // BIN_S) for at in (start_s - 30, start_s + SHOWN_S))
    with figure(page.images / "burst.svg", columns=2) as (depth, latency):
        for name, each in who.items():
            seen = timelines(page.results[case, each])
            waiting = np.mean([at["waiting"][first:last] for at in seen], axis=0)
            means = np.array(
                [[np.nan if v is None else v for v in at["mean_e2e_s"][first:last]] for at in seen]
            )
            times = np.arange(first, first + len(waiting)) * BIN_S - start_s
            style = {"color": COLOURS[name], "label": name, "linewidth": 1.5}
            depth.plot(times + BIN_S, waiting, **style)
            latency.plot(times + BIN_S / 2, np.nanmean(means, axis=0), **style)
        for axes in (depth, latency):
            axes.axvspan(0, 60, color="#f3e3b3", alpha=0.6, linewidth=0)
            axes.set_ylim(bottom=0)
        title = f"{case.path.stem}, {case.slots} slots; shaded: the burst"
        decorate(depth, title=title, across="seconds from the burst's start", up="waiting")
        decorate(latency, title=title, across="arrival, seconds", up="mean end to end, s")
        depth.legend(loc="upper right")


SECTION: Final = Section(title="A burst and its recovery", wanted=_wanted, lines=_lines)
