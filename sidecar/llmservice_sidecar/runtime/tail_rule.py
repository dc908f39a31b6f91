"""Which traces are worth keeping although nobody asked for them beforehand. Knows no span.

A sampler decides at the head of a request, when nobody knows how it will end. This rule decides at
its end: faults always, and the slowest.
"""

from __future__ import annotations

import math
from typing import Final

from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.core.window import SortedWindow

HEAD: Final = "head"  # the sampler, before the request was served
ERROR: Final = "error"
SLOW: Final = "slow"

SLOW_QUANTILE: Final = 0.99
WINDOW: Final = 1000  # completed requests; when all grow slower, the bar follows within a hundred
MIN_SAMPLES: Final = 100

# Faults of the service. What a client has caused is none: a cancel, its deadline while the answer
# ran, a request that is invalid; nor is a full queue, which would flood a collector in a rush.
FAULTS: Final = frozenset({Outcome.FAILED, Outcome.EVICTED})


def is_fault(outcome: Outcome, reason: Reason) -> bool:
    """The service owes the client an answer that it did not get."""
    return outcome in FAULTS or reason is Reason.DRAINING


class TailRule:
    """Judges every request that ends: slow is what takes longer than 99 % of the last 1,000."""

    def __init__(self) -> None:
        self._seen = SortedWindow(size=WINDOW)

    @property
    def slow_s(self) -> float:
        """What takes longer is slow; infinite while too few have been seen."""
        seen = self._seen.ascending
        if len(seen) < MIN_SAMPLES:
            return math.inf
        return seen[math.ceil(SLOW_QUANTILE * len(seen)) - 1]

    def judge(self, outcome: Outcome, reason: Reason, *, duration_s: float) -> str | None:
        """`ERROR`, `SLOW`, or None: nothing makes this one worth keeping."""
        slow = outcome is not Outcome.REJECTED and duration_s > self.slow_s
        if outcome is Outcome.COMPLETED:
            self._seen.add(duration_s)
        if is_fault(outcome, reason):
            return ERROR
        return SLOW if slow else None
