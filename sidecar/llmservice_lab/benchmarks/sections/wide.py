"""Beyond the main grid: 128 slots, another machine's costs, arrivals as they were recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from llmservice_lab.benchmarks.cases import Case
from llmservice_lab.benchmarks.grid import BURST, NOISY, Grid
from llmservice_lab.benchmarks.markdown import prose
from llmservice_lab.benchmarks.mixes import EXAM_CHAT, LMSYS_CHAT, LONG_PROMPTS, RECORDED
from llmservice_lab.benchmarks.runner import Wanted
from llmservice_lab.benchmarks.sections.ratios import ratio_table
from llmservice_lab.benchmarks.sections.section import Page, Section

MANY_SLOTS: Final = 128
OTHER_COSTS: Final = "tiny-cpu"


def many_slots(grid: Grid) -> list[Case]:
    """Where almost nobody waits but in bursts."""
    mixes = (EXAM_CHAT, LONG_PROMPTS)
    loads = ((0.95, "poisson"), (0.7, BURST))
    return [grid.case(m, MANY_SLOTS, load=load, arrivals=a) for m in mixes for load, a in loads]


def other_costs(grid: Grid) -> list[Case]:
    """A tiny model on one CPU core: a step costs little, a prompt much."""
    tiny = replace(grid, costs=OTHER_COSTS)
    loads = ((0.9, "poisson"), (0.95, "poisson"), (0.7, BURST))
    return [
        tiny.case(m, 8, load=load, arrivals=a) for m in (EXAM_CHAT, LMSYS_CHAT) for load, a in loads
    ]


def recorded(grid: Grid) -> list[Case]:
    """Sizes and times of the same requests, stretched to the load."""
    return [
        grid.case(mix, slots, load=0.8, arrivals="recorded")
        for mix in RECORDED
        for slots in (8, 32)
    ]


def _wanted(grid: Grid) -> list[Wanted]:
    cases = [*many_slots(grid), *other_costs(grid), *recorded(grid)]
    return grid.wanted(iter(cases), grid.ssjf("oracle"), grid.ssjf(NOISY))


def _lines(page: Page) -> Iterator[str]:
    parts = {
        "128 slots": (many_slots, "Hardly anybody waits at a steady load; bursts still queue."),
        "Another machine": (
            other_costs,
            f"The costs `{OTHER_COSTS}`: measured, a model of 0.8 M parameters on one CPU core.",
        ),
        "Arrivals as recorded": (
            recorded,
            """
            Sizes and times of the same requests, their times stretched to load 0.8; each seed
            begins at another place of the recording.
            """,
        ),
    }
    for title, (cases, words) in parts.items():
        yield f"### {title}"
        yield ""
        yield from prose(words)
        for predictor, lengths in (("oracle", "True lengths:"), (NOISY, "Predicted, tau 0.6:")):
            yield from prose(lengths)
            yield from ratio_table(page.results, cases(page.grid), page.grid.ssjf(predictor))


SECTION: Final = Section(title="Beyond the grid", wanted=_wanted, lines=_lines)
