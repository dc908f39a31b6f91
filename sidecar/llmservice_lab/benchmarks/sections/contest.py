"""All systems of the field on the same work, and where they lie beside our front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import Case, Contender
from llmservice_lab.benchmarks.grid import BURST, NOISY, Grid, label
from llmservice_lab.benchmarks.markdown import cell, prose, table
from llmservice_lab.benchmarks.mixes import AZURE_CODE, EXAM_CHAT
from llmservice_lab.benchmarks.plots import (
    COLOURS,
    decorate,
    figure,
    name_points,
    plain_log_scale,
)
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.loaded import average, weighted
from llmservice_lab.benchmarks.sections.section import Page, Section
from llmservice_lab.benchmarks.statistics import Estimate
from llmservice_lab.systems import SYSTEMS

WEIGHTS: Final = (0.0, 0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0)
PREDICTORS: Final = {"oracle": "true lengths", NOISY: "predicted, tau 0.6"}
FARTHEST: Final = 1.25  # x FCFS's mean
AHEAD: Final = 0.005  # of FCFS's mean: less is noise
TAIL_WORDS: Final[dict[figures.Figure, str]] = {"p99": "p99", "p999": "p99.9"}
TAILS: Final = tuple(TAIL_WORDS)

OWN_FIGURES: Final[Mapping[str, str]] = {
    "SSJF": "JCT -30.5 to -39.6 %, throughput 2.2 to 3.6 x (at the 25th completion percentile)",
    "LTR": "bursts of 2,000: 1.15 to 0.56 and 1.73 to 0.38 s/token; tau 0.54 to 0.64",
    "TIE": "0.67 s/token; LTR 1.55, SSJF 1.95, FCFS 3.17",
    "ELIS": "JCT -19.6 %, 11 ms overhead",
    "FastServe": "6.1 x throughput at equal latency",
    "EWSJF": "+30 % tokens/s, first token of short ones up to 4 x sooner, on its own mix",
}
"""What the papers report for themselves, each on its own work, engine and baseline."""


def cases(grid: Grid) -> list[Case]:
    """Two unlike ones: steady and nearly full, and bursts of short answers to long prompts."""
    bursts = grid.case(AZURE_CODE, 8, load=0.7, arrivals=BURST)
    # Systems that slice take twenty times as long to simulate: one burst a seed has to do.
    return [grid.case(EXAM_CHAT, 8, load=0.95), replace(bursts, bursts=1)]


def given(name: str, predictor: str) -> Contender:
    """The system as published with this predictor; without one that it does not look at."""
    system = SYSTEMS[name]
    looks = system.predicts and system.predictor is None
    return Contender(policy=name, predictor=predictor if looks else "oracle")


def _wanted(grid: Grid) -> list[Wanted]:
    everybody = dict.fromkeys(given(name, each) for name in SYSTEMS for each in PREDICTORS)
    front = [weighted(each, weight) for each in PREDICTORS for weight in WEIGHTS]
    return grid.wanted(iter(cases(grid)), *everybody, *front)


def _lines(page: Page) -> Iterator[str]:
    where = [f"{each.path.stem}, {each.slots} slots, {label(each)}" for each in cases(page.grid)]
    yield from prose(f"""
        Every system on the same requests at the same times: {"; ".join(where)}. Ratios to FCFS,
        averaged over both. Each runs as published (its constants; `docs/adding-a-policy.md` names
        sources and formulas), with the lengths in the table's title instead of its own model, so
        that orders are compared and not training sets. *Beside our front* is its mean minus that
        of SSJF at the tail weight that has the same p99 (or p99.9): above 0 our front is better;
        a system whose tail no tail weight reaches says so. The memory rules (PastFuture, AMax,
        AMin, SortedF) have nothing to do here: they stand once more where KV memory binds.
    """)
    for predictor, words in PREDICTORS.items():
        yield f"### {words.capitalize()}"
        yield ""
        yield from table(
            ("system", "mean", "p50", "p99", "p99.9", "beside our front, p99", "p99.9"),
            [_row(page, name, predictor) for name in SYSTEMS],
        )
        yield page.image(f"pareto-{_file(predictor)}", about=f"Mean against tails, {words}")
        yield ""
        if far := off_the_plot(page, predictor):
            yield f"Not drawn, with a mean above {FARTHEST:g} x FCFS: {', '.join(far)}."
            yield ""
        _draw(page, predictor)
    yield "### What the papers report for themselves"
    yield ""
    yield from prose("""
        On other work, engines and baselines than ours: to stand beside our figures, not to be
        subtracted from them. The others report no single figure that could stand here.
    """)
    yield from table(
        ("system", "its own figure", "our mean / p99 / p99.9 over FCFS, tau 0.6"),
        [(name, words, _short(page, name)) for name, words in OWN_FIGURES.items()],
    )


def point(page: Page, who: Contender) -> dict[figures.Figure, float]:
    """Mean, p99 and p99.9 over FCFS's, averaged over the cases."""
    asked: tuple[figures.Figure, ...] = ("mean", *TAILS)
    return {n: average(page.results, cases(page.grid), who, n).value for n in asked}


def beside_front(page: Page, name: str, predictor: str, tail: figures.Figure) -> Estimate | None:
    """Mean of a system less that of our front at the same tail; None beyond the front's ends."""
    front = [
        (at[tail], at["mean"]) for at in (point(page, weighted(predictor, w)) for w in WEIGHTS)
    ]
    # FCFS: an infinite tail weight.
    tails, means = zip(*sorted([(1.0, 1.0), *front]), strict=True)
    at = point(page, given(name, predictor))[tail]
    if not tails[0] <= at <= tails[-1]:
        return None
    ours = float(np.interp(at, tails, means))
    mean = average(page.results, cases(page.grid), given(name, predictor), "mean")
    return Estimate(mean.value - ours, mean.low - ours, mean.high - ours)


def beyond_front(page: Page, predictor: str) -> list[str]:
    """Systems that lie beyond our front by more than noise, in words; not those that know more."""
    found: list[str] = []
    for name, system in SYSTEMS.items():
        if name == "SSJF" or (system.predictor == "oracle" and predictor != "oracle"):
            continue
        for tail, words in TAIL_WORDS.items():
            beside = beside_front(page, name, predictor, tail)
            if beside is not None and beside.high < -AHEAD:
                found.append(f"{name} by {-beside.value:.3f} at an equal {words}")
    return found


def _row(page: Page, name: str, predictor: str) -> tuple[str, ...]:
    asked: tuple[figures.Figure, ...] = ("mean", "p50", "p99", "p999")
    ratios = [
        average(page.results, cases(page.grid), given(name, predictor), each) for each in asked
    ]
    beside = [beside_front(page, name, predictor, each) for each in TAILS]
    words = ["no such tail" if each is None else f"{each.value:+.3f}" for each in beside]
    if name == "SSJF":
        words = ["on it", "on it"]
    return (name, *map(cell, ratios), *words)


def _short(page: Page, name: str) -> str:
    at = point(page, given(name, NOISY))
    return " / ".join(f"{each:.2f}" for each in at.values())


def _file(predictor: str) -> str:
    return "oracle" if predictor == "oracle" else "predicted"


def off_the_plot(page: Page, predictor: str) -> list[str]:
    """Systems so far off that nothing could be told apart if they were drawn, too."""
    means = {name: point(page, given(name, predictor))["mean"] for name in SYSTEMS}
    return [name for name, mean in means.items() if mean > FARTHEST]


def _draw(page: Page, predictor: str) -> None:
    others = {
        name: point(page, given(name, predictor))
        for name in SYSTEMS
        if name not in ("SSJF", *off_the_plot(page, predictor))
    }
    line = [point(page, weighted(predictor, weight)) for weight in WEIGHTS]
    path = page.images / f"pareto-{_file(predictor)}.svg"
    with figure(path, columns=2, height=5.4) as both:
        for axes, tail in zip(both, TAILS, strict=True):
            axes.plot(
                [*(at[tail] for at in line), 1.0], [*(at["mean"] for at in line), 1.0], "o-",
                color=COLOURS["SSJF"], markersize=3, label="SSJF, tail weight 0 to infinity",
            )  # fmt: skip
            axes.plot(
                [at[tail] for at in others.values()], [at["mean"] for at in others.values()], "s",
                color=COLOURS["other"], markersize=4, label="other systems",
            )  # fmt: skip
            name_points(axes, {name: (at[tail], at["mean"]) for name, at in others.items()})
            plain_log_scale(axes)
            across = f"{TAIL_WORDS[tail]} over FCFS"
            decorate(axes, title=PREDICTORS[predictor], across=across, up="mean over FCFS")
        # Below the axes: there is a point in every corner.
        both[0].legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), ncols=2)


SECTION: Final = Section(title="Every system of the field", wanted=_wanted, lines=_lines)
