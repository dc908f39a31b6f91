"""How sure a figure is: paired ratios, shares of the oracle's gain, bootstrap intervals. Pure.

Contenders of one seed did the same work (common random numbers), so that seeds are resampled and
never single runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

DRAWS: Final = 2000
COVERAGE_PERCENT: Final = 95.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; with one seed the interval is the figure."""

    value: float
    low: float
    high: float


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Mean over seeds of value / baseline of the same seed."""
    return mean(np.divide(values, baseline).tolist())


def mean(values: Sequence[float]) -> Estimate:
    """Mean over seeds."""
    seen = np.asarray(values, dtype=np.float64)
    return _estimate(float(seen.mean()), seen[_draws(len(seen))].mean(axis=1))


def share(values: Sequence[float], fcfs: Sequence[float], oracle: Sequence[float]) -> Estimate:
    """Share of the oracle's gain that is kept: sum(FCFS - X) / sum(FCFS - oracle) over seeds.

    NaN where the oracle gains nothing.
    """
    gained, possible = (np.subtract(fcfs, each) for each in (values, oracle))
    draws = _draws(len(gained))
    at_stake = possible[draws].sum(axis=1)
    if not possible.sum() or not at_stake.all():
        return Estimate(math.nan, math.nan, math.nan)
    return _estimate(float(gained.sum() / possible.sum()), gained[draws].sum(axis=1) / at_stake)


@lru_cache(maxsize=8)
def _draws(seeds: int) -> NDArray[np.intp]:
    """Resampled seeds, a row a draw; the same for every figure, so that intervals compare."""
    return np.random.default_rng(0).integers(seeds, size=(DRAWS, seeds))


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    tail = (100 - COVERAGE_PERCENT) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail]).tolist()
    return Estimate(value, low, high)
