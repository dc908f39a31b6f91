"""What a section is: the runs that it wants, and the lines that it makes of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmservice_lab.agreement import Point
from llmservice_lab.benchmarks.grid import Grid
from llmservice_lab.benchmarks.runner import Results, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a section is written from. Plots go to `images`, linked as `link/NAME.svg`."""

    grid: Grid
    results: Results
    agreed: Sequence[Point]
    images: Path
    link: str

    def image(self, name: str, *, about: str) -> str:
        """The Markdown of a plot; `about` is read out to who cannot see it."""
        return f"![{about}]({self.link}/{name}.svg)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`lines` is Markdown below the section's title."""

    title: str
    wanted: Callable[[Grid], list[Wanted]]
    lines: Callable[[Page], Iterator[str]]
