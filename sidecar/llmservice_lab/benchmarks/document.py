"""docs/benchmarks.md: everything between its two marks is made here from the results of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmservice_lab.benchmarks.cases import CaseRun
from llmservice_lab.benchmarks.markdown import prose, table
from llmservice_lab.benchmarks.mixes import MIXES
from llmservice_lab.benchmarks.sections import (
    aims,
    bursts,
    calm,
    contest,
    engines,
    formulas,
    loaded,
    losses,
    memory,
    robust,
    seconds,
    shapes,
    wide,
)
from llmservice_lab.benchmarks.sections.section import Page, Section
from llmservice_lab.benchmarks.work import rows_of

BEGIN: Final = "<!-- made by `make bench` from here ... -->"
END: Final = "<!-- ... to here -->"
SECTIONS: Final[Sequence[Section]] = (
    aims.SECTION,
    loaded.SECTION,
    calm.SECTION,
    contest.SECTION,
    memory.SECTION,
    losses.SECTION,
    seconds.SECTION,
    shapes.BY_LENGTH,
    shapes.BY_LOAD,
    bursts.SECTION,
    robust.GARBAGE_SECTION,
    robust.OVERLOAD_SECTION,
    wide.SECTION,
    engines.SECTION,
    formulas.SECTION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the figures come from."""

    commit: str
    hardware: str
    command: str


def put_between_marks(text: str, generated: str) -> str:
    """The text with everything between the marks replaced. Raises ValueError without marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the marks {BEGIN!r} and {END!r}, in this order")
    return f"{before}{BEGIN}\n\n{generated}\n{END}{after}"


def generated(page: Page, origin: Origin) -> Iterator[str]:
    """All lines between the marks; plots are written on the way."""
    yield from _head(page, origin)
    for section in SECTIONS:
        yield f"## {section.title}"
        yield ""
        yield from section.lines(page)


def _head(page: Page, origin: Origin) -> Iterator[str]:
    runs: list[CaseRun] = [run for each in page.results.values() for run in each]
    cpu_min = sum(run["cpu_s"] for run in runs) / 60
    requests = sum(run["summary"]["requests"] for run in runs)
    effort = page.grid.effort
    yield f"`{origin.command}`, commit {origin.commit}."
    yield ""
    yield f"{origin.hardware}; {len(runs):,} runs, {cpu_min:.0f} minutes of processor time."
    yield ""
    yield from prose(f"""
        **How.** The gate that runs in the sidecar, driven in virtual time by a plain discrete-event
        engine with continuous batching (costs `{page.grid.costs}`: a published fit of a 7B model on
        an H100; no limit of KV memory). Load 1 is the measured capacity: requests completed in a
        second when all are present from the start. A case has at least {effort.requests:,}
        requests, the first tenth is warm-up and not counted; bursts are 60 s at 1.5 x capacity
        every 600 s on load 0.7, at least {effort.bursts} of them (at most 40,000 requests).
        {requests / 1e6:.0f} million requests are counted. Seeds
        {", ".join(map(str, effort.seeds))}: each draws order, arrivals and noise anew, and all
        systems of a seed do the same work at the same times. Brackets are 95 % bootstrap intervals
        over seeds, paired. *Tau 0.6*: true lengths blurred until Kendall's tau with the truth is
        0.6. Virtual time: the same seeds give the same figures on any machine.
    """)
    yield from table(
        ("mix", "what", "answer tokens: mean, p50, p90, p99, max", "prompt tokens: p50, p99"),
        [(mix.name, mix.about, *_sizes(mix.path)) for mix in MIXES],
    )
    yield "Sources and licences: [examples/workloads](../examples/workloads/README.md)."
    yield ""
    yield "Contents: " + ", ".join(f"[{s.title}](#{_anchor(s.title)})" for s in SECTIONS) + "."
    yield ""


def _sizes(path: Path) -> tuple[str, str]:
    answers = sorted(row.output_tokens for row in rows_of(path))
    prompts = sorted(row.prompt_tokens for row in rows_of(path))
    at = [answers[int(share * len(answers))] for share in (0.5, 0.9, 0.99)]
    figures = [round(sum(answers) / len(answers)), *at, answers[-1]]
    both = [prompts[int(share * len(prompts))] for share in (0.5, 0.99)]
    return ", ".join(map(str, figures)), ", ".join(map(str, both))


def _anchor(title: str) -> str:
    kept = (char for char in title.lower() if char.isalnum() or char in " -")
    return "".join(kept).replace(" ", "-")
