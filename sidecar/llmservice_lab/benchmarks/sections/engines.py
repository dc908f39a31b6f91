"""The plain engine beside vLLM's own scheduler, policy by policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llmservice_lab import agreement
from llmservice_lab.benchmarks.grid import Grid
from llmservice_lab.benchmarks.markdown import prose
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.section import Page, Section


def _wanted(_grid: Grid) -> list[Wanted]:
    return []  # vLLM runs in its own environment: see `llmservice_lab.benchmarks.agreed`


def _lines(page: Page) -> Iterator[str]:
    yield from prose(f"""
        SSJF over FCFS with true lengths, end to end, on the same requests at the same times
        ({agreement.WORKLOAD.stem}), once with the plain engine (des) of all figures above and once
        with the real vLLM scheduler in virtual time. Again: `python -m llmservice_lab.agreement`.
    """)
    yield from agreement.markdown(page.agreed)
    yield ""


SECTION: Final = Section(title="The simulator beside vLLM", wanted=_wanted, lines=_lines)
