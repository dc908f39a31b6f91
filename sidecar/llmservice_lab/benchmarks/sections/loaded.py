"""The default on every mix, load and number of slots; and its front over tail weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from llmservice_lab.benchmarks import figures, statistics
from llmservice_lab.benchmarks.cases import FCFS, Case, Contender
from llmservice_lab.benchmarks.grid import NOISY, Grid
from llmservice_lab.benchmarks.markdown import prose, table
from llmservice_lab.benchmarks.plots import COLOURS, decorate, figure
from llmservice_lab.benchmarks.runner import Results, Wanted
from llmservice_lab.benchmarks.sections.ratios import ratio_table
from llmservice_lab.benchmarks.sections.section import Page, Section
from llmservice_lab.benchmarks.statistics import Estimate

WEIGHTS: Final = {"oracle": (0.0, 0.7, 1.0, 1.5, 2.0), NOISY: (0.0, 1.0, 1.5)}
PREDICTORS: Final = {"oracle": "true lengths", NOISY: "predicted, tau 0.6"}
TAIL: Final[dict[figures.Figure, str]] = {"p99": "p99", "p999": "p99.9"}


def weighted(predictor: str, weight: float) -> Contender:
    """SSJF with this tail weight (as a factor: 1 is `tailWeightPercent: 100`)."""
    return Contender(policy="SSJF", predictor=predictor, tail_weight=weight)


def _wanted(grid: Grid) -> list[Wanted]:
    everybody = [
        weighted(predictor, weight) for predictor in WEIGHTS for weight in WEIGHTS[predictor]
    ]
    return grid.wanted(grid.loaded(), *everybody)


def _lines(page: Page) -> Iterator[str]:
    yield from prose("""
        One setting for all of them: tail weight 100, the default. Latencies are end to end, over
        FCFS's on the same requests; below 1 is better. *At stake* is by which part of FCFS's mean
        oracle SJF is below it: the most that an order without preemption can gain. *Share kept* is
        how much of that SSJF gains: (FCFS - SSJF) / (FCFS - oracle SJF).
    """)
    for predictor, words in PREDICTORS.items():
        yield f"### {words.capitalize()}"
        yield ""
        yield from ratio_table(page.results, page.grid.loaded(), page.grid.ssjf(predictor))
    yield "### What the tail weight buys"
    yield ""
    yield from _front(page)


def _front(page: Page) -> Iterator[str]:
    cases = list(page.grid.loaded())
    yield f"Averages over the {len(cases)} settings above, and the worst of them in brackets."
    yield ""
    head = ("lengths", "tail weight", "share, average [least]", "weighted by what is at stake")
    head += ("p99, average [worst]", "p99.9, average [worst]")
    rows = [
        (words, f"{100 * weight:g}", *_averages(page.results, cases, weighted(name, weight)))
        for name, words in PREDICTORS.items()
        for weight in WEIGHTS[name]
    ]
    yield from table(head, rows)
    yield page.image("front", about="Mean against p99 and p99.9 over tail weights, FCFS = 1")
    yield ""
    _draw(page, cases)


def _averages(results: Results, cases: list[Case], contender: Contender) -> tuple[str, ...]:
    kept = figures.shares(results, cases, contender)
    shares = [share for _, share in kept]
    stakes = [figures.at_stake(results, case).value for case, _ in kept]
    tails = [
        [figures.ratio(results, case, contender, name).value for case in cases] for name in TAIL
    ]
    mean = sum(shares) / len(shares)
    by_stake = float(np.average(shares, weights=stakes))
    return (
        f"{100 * mean:.0f} % [{100 * min(shares):.0f}]",
        f"{100 * by_stake:.0f} %",
        *(f"{sum(each) / len(each):.2f} [{max(each):.2f}]" for each in tails),
    )


def average(
    results: Results, cases: list[Case], contender: Contender, name: figures.Figure
) -> Estimate:
    """A ratio to FCFS, averaged over cases; its interval comes from resampling the seeds."""
    by_seed = [
        np.divide(
            figures.values(results[case, contender], name),
            figures.values(results[case, FCFS], name),
        )
        for case in cases
    ]
    return statistics.mean(np.mean(by_seed, axis=0).tolist())


def _draw(page: Page, cases: list[Case]) -> None:
    with figure(page.images / "front.svg", columns=2) as both:
        for axes, (name, words) in zip(both, TAIL.items(), strict=True):
            for predictor, colour in (("oracle", "SSJF"), (NOISY, "SSJF, predicted")):
                points = [weighted(predictor, weight) for weight in WEIGHTS[predictor]]
                across = [average(page.results, cases, each, name).value for each in points]
                up = [average(page.results, cases, each, "mean").value for each in points]
                axes.plot(
                    [*across, 1.0], [*up, 1.0], "o-", color=COLOURS[colour], markersize=4,
                    label=f"SSJF, {PREDICTORS[predictor]}",
                )  # fmt: skip
                for weight, x, y in zip(WEIGHTS[predictor], across, up, strict=True):
                    axes.annotate(
                        f"{100 * weight:g}", (x, y), textcoords="offset points", xytext=(5, 5),
                        fontsize=8,
                    )  # fmt: skip
            axes.plot([1], [1], "s", color=COLOURS["FCFS"], label="FCFS")
            decorate(
                axes,
                title=f"labels: tail weight; average of {len(cases)} settings",
                across=f"{words} over FCFS",
                up="mean over FCFS",
            )
        both[0].legend(loc="upper right")


SECTION: Final = Section(
    title="The default over mixes, loads and slots", wanted=_wanted, lines=_lines
)
