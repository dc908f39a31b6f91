"""Where SSJF loses: said with the figures of all other sections, not chosen by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import Case, Contender
from llmservice_lab.benchmarks.grid import NOISY, Grid, label
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections import contest, loaded
from llmservice_lab.benchmarks.sections.section import Page, Section
from llmservice_lab.benchmarks.sections.shapes import decile

TAILS: Final[dict[figures.Figure, str]] = {"p99": "p99", "p999": "p99.9"}
NOTHING: Final = 0.02  # of FCFS's mean: less than this is not worth a model


def _wanted(grid: Grid) -> list[Wanted]:
    return [*loaded.SECTION.wanted(grid), *contest.SECTION.wanted(grid)]


def _lines(page: Page) -> Iterator[str]:
    cases = list(page.grid.loaded())
    oracle, noisy = page.grid.ssjf("oracle"), page.grid.ssjf(NOISY)
    yield from _longest(page, cases, noisy)
    yield from _tails(page, cases, oracle)
    yield from _idle(page, cases)
    yield from _short_of_oracle(page, cases, noisy)
    yield from _ahead(page)
    yield "- A single user with one request at a time gains nothing; who sends only long requests"
    yield "  pays for those who send short ones."
    yield ""


def _longest(page: Page, cases: list[Case], noisy: Contender) -> Iterator[str]:
    def mean(case: Case) -> float:
        return decile(page.results, case, noisy, 10).value

    worst = max(cases, key=mean)
    losing = sum(mean(case) > 1 for case in cases)
    yield "- **The longest answers pay.** With predicted lengths the longest tenth is slower than"
    yield f"  under FCFS in {losing} of {len(cases)} loaded settings; at worst it takes"
    yield f"  {_words(mean, worst)}."


def _tails(page: Page, cases: list[Case], oracle: Contender) -> Iterator[str]:
    def over_fcfs(name: figures.Figure) -> Callable[[Case], float]:
        return lambda case: figures.ratio(page.results, case, oracle, name).value

    for name, words in TAILS.items():
        tail = over_fcfs(name)
        yield f"- The {words} of all requests is {_words(tail, max(cases, key=tail))} at worst."


def _idle(page: Page, cases: list[Case]) -> Iterator[str]:
    calm = [*cases, *page.grid.calm("poisson")]
    nothing = [c for c in calm if figures.at_stake(page.results, c).value < NOTHING]
    places = "; ".join(_place(case) for case in nothing) or "none here"
    yield "- **Where nobody waits there is nothing to win**: less than"
    yield f"  {100 * NOTHING:.0f} % of the mean is at stake in {len(nothing)} of {len(calm)}"
    yield f"  settings ({places})."


def _short_of_oracle(page: Page, cases: list[Case], noisy: Contender) -> Iterator[str]:
    worst, kept = min(figures.shares(page.results, cases, noisy), key=lambda seen: seen[1])
    yield f"- With predictions the least share of the oracle's gain is {100 * kept:.0f} %"
    yield f"  ({_place(worst)}): answers of one kind are hard to tell apart, and tau 0.6 is"
    yield "  more than a predictor reaches on open chat alone."


def _ahead(page: Page) -> Iterator[str]:
    for predictor, words in contest.PREDICTORS.items():
        if found := contest.beyond_front(page, predictor):
            yield f"- **Beyond our front** in the comparison, {words} (mean over FCFS):"
            yield f"  {'; '.join(found)}."
        else:
            yield f"- No system lies beyond our front by more than noise, {words}."


def _words(figure: Callable[[Case], float], case: Case) -> str:
    return f"{figure(case):.2f} x FCFS ({_place(case)})"


def _place(case: Case) -> str:
    return f"{case.path.stem}, {case.slots} slots, {label(case)}"


SECTION: Final = Section(title="Where SSJF loses", wanted=_wanted, lines=_lines)
