"""docs/predictors.md: everything between its two marks is made here from measured lines. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llmservice_lab.benchmarks.markdown import prose, table
from llmservice_lab.benchmarks.statistics import Estimate
from llmservice_lab.predictors.contestants import ALL_ROWS, Contestant
from llmservice_lab.predictors.judging import EvalRow, SourceMean

BEGIN: Final = "<!-- made by `make predictors` from here ... -->"
END: Final = "<!-- ... to here -->"


@dataclass(frozen=True, slots=True)
class Line:
    """A contestant's figures: of every source and model, and means of each source."""

    contestant: Contestant
    rows: Sequence[EvalRow]
    means: Sequence[SourceMean]
    resident_mib: float | None

    def mean(self, source: str) -> SourceMean | None:
        """The figures of a source; None where it has none."""
        return next((each for each in self.means if each["source"] == source), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLine:
    """What a workload is, and the share of the oracle's gain that each predictor keeps."""

    work: str
    about: str
    requests: int
    shares: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that is written."""

    commit: str
    hardware: str
    lines: Sequence[Line]
    shares: Sequence[ShareLine]

    @property
    def sources(self) -> list[str]:
        """Names of the sources, sorted."""
        return sorted({mean["source"] for line in self.lines for mean in line.means})


def put_between_marks(text: str, made: str) -> str:
    """The text with everything between the marks replaced. Raises ValueError without marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the marks {BEGIN!r} and {END!r}, in this order")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def generated(page: Page) -> Iterator[str]:
    """All lines between the marks."""
    yield f"Commit {page.commit}; {page.hardware}."
    yield ""
    yield from _who(page)
    yield from _ranks(page)
    yield from _pairs(page)
    yield from _tokens(page)
    yield from _cost(page)
    yield from _gain(page)


def _who(page: Page) -> Iterator[str]:
    yield from table(
        ("predictor", "what it is", "trained on"),
        [
            (each.name, each.about, "permissive rows" if each.shipped else "all train rows")
            for each in (line.contestant for line in page.lines)
            if each.spec or each.parts
        ],
    )


def _ranks(page: Page) -> Iterator[str]:
    yield "## Ranks"
    yield ""
    yield from prose("""
        Kendall's tau-b of predicted and true lengths, of each model and averaged over the models of
        a source; +- one standard error (bootstrap over groups of near-duplicate prompts). 0 is
        chance. The last lines are a ceiling: what the same model wrote when it was asked again, and
        what the other models wrote.
    """)
    yield from _by_source(page, _tau)
    yield from prose("""
        The best line of each source, the same model as the default's trained on all rows as a share
        of it, and the default as it is shipped beside prompt length alone.
    """)
    yield from table(
        ("source", "best", "tau", f"{ALL_ROWS} / best", "default", "prompt length"),
        [_best(page, source) for source in page.sources],
    )


def _best(page: Page, source: str) -> tuple[str, ...]:
    taus = {
        line.contestant.name: mean["tau_b"]
        for line in page.lines
        if (line.contestant.spec or line.contestant.parts) and not line.contestant.online
        if (mean := line.mean(source)) and mean["tau_b"] is not None
    }
    if not taus:
        return (source, *"-----")
    best = max(taus, key=lambda name: taus[name])
    ours = taus.get(ALL_ROWS)
    shown = [taus.get(name) for name in ("default", "prompt length")]
    return (
        source,
        best,
        f"{taus[best]:.3f}",
        "-" if ours is None or taus[best] <= 0 else f"{ours / taus[best]:.2f}",
        *("-" if tau is None else f"{tau:.3f}" for tau in shown),
    )


def _pairs(page: Page) -> Iterator[str]:
    yield "## Pairs"
    yield ""
    yield from prose("""
        Share of pairs of answers in right order, of those that differ by 1.2 times or more, and
        twofold or more; 0.5 is chance.
    """)
    yield from _by_source(
        page, lambda mean: _two(mean["pairwise_1_2x"], mean["pairwise_2x"], digits=2)
    )


def _tokens(page: Page) -> Iterator[str]:
    yield "## Tokens and coverage"
    yield ""
    yield from prose("""
        Mean absolute error of the median in tokens; in brackets the percentage of answers that are
        not longer than the predicted p50 and p90. No predictor can know how much a model writes
        that it has not met: but for the lines *as told* and *online*, each got the level and spread
        of each model from the val rows.
    """)
    yield from _by_source(page, _error)


def _cost(page: Page) -> Iterator[str]:
    yield "## Time and memory"
    yield ""
    yield from prose("""
        Processor time of one prediction, one prompt at a time, and the resident memory of a process
        that has the predictor and does nothing else.
    """)
    timed = [line for line in page.lines if line.contestant.spec or line.contestant.parts]
    yield from table(
        ("predictor", "ms p50", "ms p99", "memory, MiB"),
        [
            (
                line.contestant.name,
                *_times(line),
                "-" if line.resident_mib is None else f"{line.resident_mib:.0f}",
            )
            for line in timed
        ],
    )


def _gain(page: Page) -> Iterator[str]:
    yield "## Share of the oracle's gain"
    yield ""
    yield from prose("""
        Mean end-to-end time: how much of what SSJF gains over arrival order with true lengths it
        gains with a predictor, in percent [95 % interval over ten seeds]. The sidecar's gate and
        guard in virtual time, 8 slots, Poisson arrivals at load 0.9, up to 1,000 requests a run and
        none twice. *Online* learns during the run; the others do not.
    """)
    names = list(dict.fromkeys(name for line in page.shares for name in line.shares))
    yield from table(
        ("predictor", *(line.work for line in page.shares)),
        [(name, *(_share(line.shares.get(name)) for line in page.shares)) for name in names],
    )
    yield from table(
        ("workload", "requests", "what"),
        [(line.work, f"{line.requests:,}", line.about) for line in page.shares],
    )


def _by_source(page: Page, show: Callable[[SourceMean], str]) -> Iterator[str]:
    rows = [
        (line.contestant.name, *("-" if mean is None else show(mean) for mean in means))
        for line in page.lines
        if any(means := [line.mean(source) for source in page.sources])
    ]
    yield from table(("predictor", *page.sources), rows)


def _tau(mean: SourceMean) -> str:
    if mean["tau_b"] is None:
        return "-"
    error = mean["tau_b_error"]
    return f"{mean['tau_b']:.2f}" + ("" if error is None else f" +- {error:.2f}")


def _error(mean: SourceMean) -> str:
    covered = [mean["coverage_p50"], mean["coverage_p90"]]
    shown = ", ".join("-" if each is None else f"{100 * each:.0f}" for each in covered)
    brackets = "" if covered == [None, None] else f" ({shown})"
    return "-" if mean["mae_tokens"] is None else f"{mean['mae_tokens']:.0f}{brackets}"


def _two(first: float | None, second: float | None, *, digits: int) -> str:
    return " / ".join("-" if each is None else f"{each:.{digits}f}" for each in (first, second))


def _times(line: Line) -> tuple[str, str]:
    """Over all sources: the mean median, the worst p99."""
    medians = [mean["latency_ms"]["p50"] for mean in line.means]
    slowest = [mean["latency_ms"]["p99"] for mean in line.means]
    known = [each for each in medians if each is not None]
    worst = [each for each in slowest if each is not None]
    if not known:
        return "-", "-"
    return f"{sum(known) / len(known):.2f}", f"{max(worst):.2f}"


def _share(share: Estimate | None) -> str:
    if share is None or math.isnan(share.value):
        return "-"
    value, low, high = (round(100 * each) for each in (share.value, share.low, share.high))
    return f"{value} [{low}, {high}]"
