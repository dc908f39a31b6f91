"""The targets of `llmservice_lab.benchmarks.bars`, met or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llmservice_lab.benchmarks import bars
from llmservice_lab.benchmarks.markdown import prose, table
from llmservice_lab.benchmarks.sections.section import Page, Section


def _lines(page: Page) -> Iterator[str]:
    yield from prose("""
        What the default has to hold in every setting of the grid. `uv run python -m
        llmservice_lab.benchmarks.bars --workload FILE` asks the same of your workload.
    """)
    found = bars.targets(page.grid, page.results)
    rows = [(t.name, f"{t.value:.3f}", f"{t.side} {t.bar:g}", t.word, t.where) for t in found]
    yield from table(("what", "value", "target", "met", "where"), rows)


SECTION: Final = Section(title="Targets", wanted=bars.wanted, lines=_lines)
