"""How much work is in the system, and which gamma follows from it. Pure sums, no clock.

gamma = tail weight / horizon, horizon = max(V, 2 ex, 1 ms): V is the work in system per slot now in
seconds, ex how far V exceeds its own 80 % quantile on average when it does. Costs are seconds =
observed seconds per predicted token x predicted tokens, so a constant bias of predictor cancels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

from llmservice_sidecar.core.rules import Running

WINDOW_ARRIVALS: Final = 4096
MIN_ARRIVALS: Final = 64
REFRESH_ARRIVALS: Final = 32
QUANTILE: Final = 0.8
DECAY_PER_COMPLETION: Final = 1 / 256
MIN_COMPLETIONS: Final = 8
MIN_HORIZON_S: Final = 1e-3
MOVED_RATIO: Final = 0.05


class WorkEstimator:
    """Learns seconds per predicted token from completions, and how V swings from arrivals."""

    def __init__(self) -> None:
        self._service_s = 0.0
        self._service_tokens = 0.0
        self._completions = 0
        self._arrivals = 0
        self._seen_s: deque[float] = deque(maxlen=WINDOW_ARRIVALS)
        self._excess_s = 0.0

    @property
    def s_per_token(self) -> float | None:
        """Service seconds of one predicted token in one slot; None before the first completions."""
        if self._completions < MIN_COMPLETIONS or self._service_s <= 0:
            return None
        return self._service_s / self._service_tokens

    @property
    def excess_s(self) -> float:
        """ex: by how much V exceeds its 80 % quantile on average, over the last arrivals."""
        return self._excess_s

    def observe_service(self, service_s: float, *, work_tokens: float) -> None:
        """A request completed: its slot-seconds of service beside what had been predicted."""
        keep = 1 - DECAY_PER_COMPLETION
        self._service_s = self._service_s * keep + max(service_s, 0.0)
        self._service_tokens = self._service_tokens * keep + work_tokens
        self._completions += 1

    def observe_arrival(self, work_s: float) -> None:
        """A request arrived and found V = `work_s`; counts only once costs are known."""
        if self.s_per_token is None:
            return
        self._seen_s.append(work_s)
        self._arrivals += 1
        if self._arrivals % REFRESH_ARRIVALS == 0 and len(self._seen_s) >= MIN_ARRIVALS:
            self._excess_s = mean_excess(self._seen_s, quantile=QUANTILE)

    def horizon_s(self, work_s: float) -> float:
        """max(V, 2 ex, 1 ms): over this many seconds waiting is weighed against size."""
        return max(work_s, 2 * self._excess_s, MIN_HORIZON_S)

    def work_s(self, queued_tokens: float, running: Iterable[Running], *, now: float) -> float:
        """Predicted slot-seconds left, queued and in flight; 0 while costs are unknown.

        Work in flight decays from the first token, not from admission: before it the request may
        still wait inside the engine.
        """
        rate = self.s_per_token
        if rate is None:
            return 0.0
        total = rate * queued_tokens
        for item in running:
            left = rate * item.work_tokens
            if item.first_token_at is not None:
                left -= (now - item.first_token_at) * item.request.slots
            if left > 0:
                total += left
        return total


def mean_excess(values: Iterable[float], *, quantile: float) -> float:
    """Mean of value - q over the values above their quantile q; 0 where none is above."""
    ordered = sorted(values)
    cut = ordered[int(quantile * len(ordered))]
    above = [value - cut for value in ordered if value > cut]
    return math.fsum(above) / len(above) if above else 0.0


def moved(before: float | None, after: float | None) -> bool:
    """Has a figure moved by more than 5 %, or become known?"""
    if before is None or after is None:
        return before is not after
    return abs(after - before) > MOVED_RATIO * before
