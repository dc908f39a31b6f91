"""How sure a figure is: paired ratios, shares of the oracle's gain, bootstrap intervals. Pure.

Contenders of one seed did the same work (common random numbers), so that seeds are resampled and
never single runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

DRAWS: Final = 2000
COVERAGE_PERCENT: Final = 95.0

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; with one seed the interval is the figure."""

    value: float
    low: float
    high: float


def estimate(figure: Callable[[NDArray[np.intp]], float], *, seeds: int) -> Estimate:
    """`figure` of the seeds' indices, and its percentile bootstrap interval over seeds."""
    rng = np.random.default_rng(0)  # the same draws for every figure: intervals compare
    drawn = [figure(rng.integers(seeds, size=seeds)) for _ in range(DRAWS)] if seeds > 1 else []
    value = figure(np.arange(seeds))
    if not drawn:
        return Estimate(value, value, value)
    tail = (100 - COVERAGE_PERCENT) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail]).tolist()
    return Estimate(value, low, high)


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """Mean over seeds of value / baseline of the same seed."""
    ratios = _array(values) / _array(baseline)
    return estimate(lambda picked: float(ratios[picked].mean()), seeds=len(ratios))


def mean(values: Sequence[float]) -> Estimate:
    """Mean over seeds."""
    seen = _array(values)
    return estimate(lambda picked: float(seen[picked].mean()), seeds=len(seen))


def share(values: Sequence[float], fcfs: Sequence[float], oracle: Sequence[float]) -> Estimate:
    """Share of the oracle's gain that is kept: sum(FCFS - X) / sum(FCFS - oracle) over seeds."""
    gained, possible = (_array(fcfs) - _array(each) for each in (values, oracle))

    def of(picked: NDArray[np.intp]) -> float:
        at_stake = float(possible[picked].sum())
        return float(gained[picked].sum()) / at_stake if at_stake else float("nan")

    return estimate(of, seeds=len(gained))


def _array(values: Sequence[float]) -> Values:
    return np.asarray(values, dtype=np.float64)
