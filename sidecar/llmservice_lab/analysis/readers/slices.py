"""Asking a store that tells at most so many traces at once, in its own order, for all of them.

Jaeger sorts by the span it stored first, Tempo not at all: a full answer says nothing of what it
leaves out. So a window whose answer is full is halved, until none is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from llmservice_lab.analysis.record import Told

DEFAULT_BACK_S: Final = 3600.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Unix seconds from and until which a store is asked, and for how many traces at most."""

    since_s: float
    until_s: float
    limit: int

    @classmethod
    def of(cls, since_s: float, until_s: float, limit: int) -> Window:
        """With the last hour where nothing was said."""
        until_s = time.time() if math.isinf(until_s) else until_s
        since_s = until_s - DEFAULT_BACK_S if math.isinf(since_s) else since_s
        return cls(since_s=since_s, until_s=until_s, limit=limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """A store tells `page` traces at most, and takes windows not shorter than `least_s`."""

    page: int
    least_s: float


def in_slices(
    window: Window,
    ask: Callable[[float, float], Sequence[tuple[str, _T]]],
    *,
    paging: Paging,
    told: Told,
) -> Iterator[list[tuple[str, _T]]]:
    """What `ask(since_s, until_s)` tells of traces by id, each once, the latest slices first."""
    slices = [(window.since_s, window.until_s)]
    seen: set[str] = set()
    while slices and len(seen) < window.limit:
        since_s, until_s = slices.pop()
        found = ask(since_s, until_s)
        full = len(found) >= paging.page
        if full and until_s - since_s > paging.least_s:
            middle_s = (since_s + until_s) / 2
            slices += [(since_s, middle_s), (middle_s, until_s)]
            continue
        told.cut_off += full
        fresh = [one for one in found if one[0] not in seen]
        seen.update(trace_id for trace_id, _ in fresh)
        yield fresh
