"""Where KV memory binds before the slots do: the systems that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from llmservice_lab.benchmarks import figures
from llmservice_lab.benchmarks.cases import FCFS, Case
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


def _wanted(grid: Grid) -> list[Wanted]:
    everybody = dict.fromkeys(given(name, each) for name in NAMES for each in LENGTHS)
    return grid.wanted(iter([case(grid)]), *everybody)


def _lines(page: Page) -> Iterator[str]:
    yield from prose(f"""
        exam-chat, {SLOTS} slots, load 0.9, KV memory for {KV_TOKENS:,} tokens, where as many
        requests as there are slots would fill some 14,000: the engine preempts and computes again.
        Ratios to FCFS, which lets all slots fill; preemptions are counts of a run.
    """)
    work = case(page.grid)
    asked: tuple[figures.Figure, ...] = ("mean", "p50", "p99", "p999")
    rows: list[tuple[str, ...]] = []
    for predictor, words in LENGTHS.items():
        for who in dict.fromkeys(given(name, predictor) for name in NAMES):
            runs = page.results[work, FCFS if who.policy == "FCFS" else who]
            ratios = [figures.ratio(page.results, work, who, each) for each in asked]
            speed = figures.throughput(page.results, work, who)
            preempted = np.mean([run["summary"]["preemptions"] or 0 for run in runs])
            row = (who.policy, words, *map(cell, ratios), cell(speed), f"{preempted:.0f}")
            rows.append(row)
    head = ("system", "lengths", "mean", "p50", "p99", "p99.9", "tokens/s", "preemptions")
    yield from table(head, rows)


SECTION: Final = Section(title="Where memory binds", wanted=_wanted, lines=_lines)
