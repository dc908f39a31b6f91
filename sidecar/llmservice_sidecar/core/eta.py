"""When will a request start? Predicted from what runs and what stands before it.

List scheduling: each request before it takes the slot that is free first. Later arrivals that step
ahead are not foreseen, and predictions err: the figure is an expectation, no promise.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable


def predicted_wait_s(
    left_s: Iterable[float], before_s: Iterable[float], *, limit_slots: int
) -> float:
    """Seconds until a slot is free for who stands behind `before_s`.

    `left_s`: seconds still to come of each slot in use; `before_s`: costs of those who stand
    before, in their order, in seconds of a slot.
    """
    free_at = free_times(left_s, limit_slots=limit_slots)
    for cost_s in before_s:
        heapq.heapreplace(free_at, free_at[0] + cost_s)
    return free_at[0]


def free_times(left_s: Iterable[float], *, limit_slots: int) -> list[float]:
    """In how many seconds each slot is free, as a heap."""
    free_at = sorted(left_s)
    idle = max(limit_slots, 1) - len(free_at)
    # After a shrink more slots are in use than there will be: the earliest are not given again.
    return [0.0] * idle + free_at if idle > 0 else free_at[-idle:]
