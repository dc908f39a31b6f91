"""Figures as cells and rows of Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import dedent

from llmservice_lab.benchmarks.statistics import Estimate


def cell(figure: Estimate) -> str:
    """`0.82 [0.79, 0.85]`."""
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def percent(figure: Estimate) -> str:
    """`77 % [75, 80]`."""
    value, low, high = (round(100 * each) for each in (figure.value, figure.low, figure.high))
    return f"{value} % [{low}, {high}]"


def prose(text: str) -> Iterator[str]:
    """A paragraph as it stands in the source, without its indentation, and an empty line."""
    yield from dedent(text).strip().splitlines()
    yield ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table and the empty line after it."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
