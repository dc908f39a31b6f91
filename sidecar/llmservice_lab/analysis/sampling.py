"""Are the traces all requests, some picked by chance, or some picked for how they ended? Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmservice_lab.analysis.columns import Mask
from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.results import WARM_UP_SHARE

WHOLE: Final = 0.95  # this share of the requests that stood in the queue is as good as all


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What can be said of a service by its traces.

    `judges`: the rows that chance picked, which every figure is taken of; all rows where chance
    picked none. `share`: of the queued requests, those with such a trace; None: nobody queued
    behind another. `whole`: nearly no request is missing, so the traces are the load.
    """

    judges: Mask
    by_chance: bool
    share: float | None
    whole: bool


def sample_of(requests: Sequence[TracedRequest]) -> Sample:
    """How the traces of these requests, in order of arrival, were picked."""
    at_end = np.array([one.kept_at_its_end for one in requests], dtype=np.bool_)
    by_chance = not at_end.all()
    # Of a rush the slow ones are kept at their end, nearly all of them: counted here, they would
    # hide how few of the others are.
    share = queued_share(one for one in requests if not one.kept_at_its_end)
    return Sample(
        judges=~at_end if by_chance else np.ones_like(at_end),
        by_chance=by_chance,
        share=share,
        # Where all are sampled, none is there for its end alone.
        whole=not at_end.any() if share is None else share >= WHOLE,
    )


def queued_share(requests: Iterable[TracedRequest]) -> float | None:
    """Requests seen in the queue over those that the spans say stood there; after the warm-up."""
    by_pod: defaultdict[tuple[str, str], list[TracedRequest]] = defaultdict(list)
    for one in requests:
        by_pod[one.service, one.pod].append(one)
    seen = said = 0
    for members in by_pod.values():
        # Whom the first ones found waiting came before the first trace.
        later = members[int(len(members) * WARM_UP_SHARE) :]
        seen_here, said_here = depths(members, later)
        seen += seen_here
        said += said_here
    return min(seen / said, 1.0) if said else None


def depths(requests: Sequence[TracedRequest], later: Iterable[TracedRequest]) -> tuple[int, int]:
    """How many others waited when each of `later` came: by the traces, and by its own span."""
    queued = sorted(one.queued_s for one in requests if one.queued_s is not None and one.waited)
    left = sorted(
        one.left_queue_s
        for one in requests
        if one.queued_s is not None and one.left_queue_s is not None and one.waited
    )
    seen = said = 0
    for one in later:
        if one.queued_s is None or one.depth is None:
            continue
        # Others only: itself is always in the trace, and would hide that others are not.
        seen += bisect_left(queued, one.queued_s) - bisect_right(left, one.queued_s)
        said += max(one.depth - 1, 0)
    return seen, said
