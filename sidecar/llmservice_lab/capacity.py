"""How many requests a second a server completes when all of them are there from the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_TRIM: Final = 0.1  # the first and last tenth: filling and emptying


def completed_per_second(done_s: Sequence[float]) -> float:
    """Completions a second in the middle 80 % of completion times. ValueError below ten of them."""
    if len(done_s) < 10:
        raise ValueError(f"capacity needs at least 10 completed requests, got {len(done_s)}")
    ordered = sorted(done_s)
    first = int(len(ordered) * _TRIM)
    last = len(ordered) - 1 - first
    return (last - first) / (ordered[last] - ordered[first])
