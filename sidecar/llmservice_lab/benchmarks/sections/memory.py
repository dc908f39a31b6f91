"""Where KV memory binds before the slots do: the systems that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import Case, Contender
from llmservice_lab.benchmarks.grid import NOISY, Grid
from llmservice_lab.benchmarks.markdown import cell, prose, table
from llmservice_lab.benchmarks.mixes import EXAM_CHAT
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.contest import given
from llmservice_lab.benchmarks.sections.section import Page, Section

SLOTS: Final = 32
KV_TOKENS: Final = 10_000  # 32 requests of this mix would fill 14,000 on average
NAMES: Final = (
    "FCFS", "SSJF", "HRRN", "OracleSJF", "LAMPS", "PastFuture", "AMax", "AMin", "SortedF",
)  # fmt: skip
LENGTHS: Final = {"oracle": "true", NOISY: "tau 0.6"}


def case(grid: Grid) -> Case:
    """Steady, nearly full; the capacity is what this memory allows."""
    return replace(grid.case(EXAM_CHAT, SLOTS, load=0.9), kv_tokens=KV_TOKENS)


def forecasting(grid: Grid, predictor: str) -> Contender:
    """The default with the sidecar's forecast of KV memory, as deployed where memory is known."""
    return replace(grid.ssjf(predictor), forecast=True)


def _wanted(grid: Grid) -> list[Wanted]:
    everybody = dict.fromkeys(given(name, each) for name in NAMES for each in LENGTHS)
    everybody |= dict.fromkeys(forecasting(grid, each) for each in LENGTHS)
    return grid.wanted(iter([case(grid)]), *everybody)


def _lines(page: Page) -> Iterator[str]:
    yield from prose(f"""
        exam-chat, {SLOTS} slots, load 0.9, KV memory for {KV_TOKENS:,} tokens, where as many
        requests as there are slots would fill some 14,000: the engine preempts and computes again.
        Ratios to FCFS, which lets all slots fill; preemptions are counts of a run. No order of
        ours reaches requests that wait inside the engine: a rule that holds them back makes room
        for it. *SSJF with forecast* is what is deployed where the memory is known.
    """)
    work = case(page.grid)
    asked: tuple[figures.Figure, ...] = ("mean", "p50", "p99", "p999")
    rows: list[tuple[str, ...]] = []
    for predictor, words in LENGTHS.items():
        ours = forecasting(page.grid, predictor)
        for who in dict.fromkeys([*(given(name, predictor) for name in NAMES), ours]):
            runs = page.results[work, who]
            ratios = [figures.ratio(page.results, work, who, each) for each in asked]
            speed = figures.throughput(page.results, work, who)
            preempted = np.mean([run["summary"]["preemptions"] or 0 for run in runs])
            name = "SSJF with forecast" if who.forecast else who.policy
            row = (name, words, *map(cell, ratios), cell(speed), f"{preempted:.0f}")
            rows.append(row)
    head = ("system", "lengths", "mean", "p50", "p99", "p99.9", "tokens/s", "preemptions")
    yield from table(head, rows)


SECTION: Final = Section(title="Where memory binds", wanted=_wanted, lines=_lines)
