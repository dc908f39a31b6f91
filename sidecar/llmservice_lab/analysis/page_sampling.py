"""What the page says where traces were left out or picked, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from llmservice_lab.analysis.document import Report

NOT_TOLD: Final = (
    "How full the slots were, what another order would gain and whether more slots or replicas "
    "would help cannot be told from a part of the requests. Record at 100 % for that."
)


def sampled_by_chance(report: Report) -> int:
    """How many requests the figures are of; 0: chance picked none, so they are of all."""
    return report.requests - report.kept_at_their_end


def sampling_lines(report: Report) -> Iterator[str]:
    """What a reader has to know about how the traces were picked."""
    kept, picked = report.kept_at_their_end, sampled_by_chance(report)
    if kept:
        yield (
            f"{kept} of {report.requests} traces were kept because the request was slow or failed, "
            "and these have no span of the engine: "
            + (
                f"they count among the endings and the slow requests; all other figures are of the "
                f"other {picked}"
                if picked
                else "all figures look slower than the service is"
            )
        )
    if not report.whole and report.sampled is not None:
        yield (
            f"the traces sampled by chance hold about {report.sampled:.0%} of the requests that "
            "stood in the queue (by the depths on their spans)"
        )
