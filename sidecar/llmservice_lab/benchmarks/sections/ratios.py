"""The table that most sections share: what is at stake, what is kept, ratios to FCFS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import Case, Contender
from llmservice_lab.benchmarks.grid import label
from llmservice_lab.benchmarks.markdown import cell, percent, table
from llmservice_lab.benchmarks.runner import Results

ASKED: Final[tuple[figures.Figure, ...]] = ("mean", "p50", "p99", "p999")
HEAD: Final = (
    "mix", "slots", "load", "at stake", "share kept", "mean", "p50", "p99", "p99.9",
)  # fmt: skip


def ratio_table(results: Results, cases: Iterable[Case], who: Contender) -> Iterator[str]:
    """A row a case."""
    rows: list[tuple[str, ...]] = []
    for case in cases:
        ratios = [figures.ratio(results, case, who, each) for each in ASKED]
        stake = figures.at_stake(results, case)
        worth = stake.value >= figures.WORTH
        kept = percent(figures.share(results, case, who)) if worth else "-"
        place = (case.path.stem, str(case.slots), label(case))
        rows.append((*place, percent(stake), kept, *map(cell, ratios)))
    yield from table(HEAD, rows)
