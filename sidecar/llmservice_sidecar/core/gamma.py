"""Over how many seconds waiting is weighed against size: the horizon behind gamma. No clock.

gamma = tail weight / horizon, horizon = max(V, 2 ex, 1 ms): V is the work in system per slot now in
seconds, ex how far V exceeds its own 80 % quantile on average when it does. Beyond twelve mean
requests per slot the horizon grows as the square root: behind so many the work in system swings
less than in proportion, and with a linear horizon the longest answers waited for a burst's end.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.service_rates import ServiceRates
from llmservice_sidecar.core.window import SortedWindow

WINDOW_ARRIVALS: Final = 4096
WINDOW_S: Final = 7200.0  # where few come, one great burst may not count for days
MIN_ARRIVALS: Final = 64
REFRESH_ARRIVALS: Final = 32
QUANTILE: Final = 0.8
MIN_HORIZON_S: Final = 1e-3
DEEP_REQUESTS: Final = 12.0  # mean requests of work per slot; chosen on bursts of five mixes
MOVED_RATIO: Final = 0.05
RATE_MOVED: Final = 0.2  # it scales all costs alike, so less hangs on it than on gamma
PREFILL_MOVED: Final = 0.01  # of a step; the rate itself is about 0.05 of one


class WorkEstimator:
    """Learns what requests cost from those that finish, and how V swings from arrivals."""

    def __init__(self) -> None:
        self.rates: Final = ServiceRates()
        self._arrivals = 0
        self._work_s = SortedWindow(size=WINDOW_ARRIVALS, age_s=WINDOW_S)
        self._excess_s = 0.0
        self._least_s = MIN_HORIZON_S

    @property
    def excess_s(self) -> float:
        """ex: by how much V exceeds its 80 % quantile on average, over the last arrivals."""
        return self._excess_s

    def observe_arrival(self, work_s: float, *, now: float) -> None:
        """A request arrived and found V = `work_s`, known in seconds."""
        self._work_s.add(work_s, now=now)
        self._arrivals += 1
        if self._arrivals % REFRESH_ARRIVALS == 0 and len(self._work_s) >= MIN_ARRIVALS:
            self._excess_s = mean_excess(self._work_s.ascending, quantile=QUANTILE)
            self._least_s = max(2 * self._excess_s, MIN_HORIZON_S)

    def horizon_s(self, work_s: float) -> float:
        """Over this many seconds waiting is weighed against size.

        H = max(V, 2 ex, 1 ms); with D = 12 mean costs of a request, sqrt(D H) where H exceeds D.
        """
        horizon_s = work_s if work_s > self._least_s else self._least_s
        deep_s = DEEP_REQUESTS * self.rates.mean_cost_s
        if deep_s and horizon_s > deep_s:
            return math.sqrt(deep_s * horizon_s)
        return horizon_s


def mean_excess(ordered: Sequence[float], *, quantile: float) -> float:
    """Mean of value - q over the values above their quantile q; 0 where none is above."""
    cut = ordered[int(quantile * len(ordered))]
    above = ordered[bisect_right(ordered, cut) :]
    return (math.fsum(above) - cut * len(above)) / len(above) if above else 0.0


def moved(before: float, after: float) -> bool:
    """Has a figure moved by more than 5 %?"""
    return abs(after - before) > MOVED_RATIO * before


def costs_moved(before: ServiceCosts | None, after: ServiceCosts | None) -> bool:
    """Has a rate moved by more than 20 %, or become known?

    The rate of prefill is compared on the scale of a step: for small prompts it hardly matters.
    """
    if before is None or after is None:
        return before is not after
    prefill = abs(after.s_per_prefill_token - before.s_per_prefill_token)
    token = abs(after.s_per_token - before.s_per_token)
    return token > RATE_MOVED * before.s_per_token or prefill > PREFILL_MOVED * before.step_s
