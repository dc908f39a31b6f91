"""How sure a difference between two replays of the same requests is. Knows only pairs of times.

Neighbouring requests wait in the same queue, so they are not independent: drawing them one by one
would promise far too narrow intervals. Blocks of neighbours are drawn instead (the moving block
bootstrap: H. R. Kuensch, "The Jackknife and the Bootstrap for General Stationary Observations",
Annals of Statistics 17, 1989), the same for both sides of every comparison, within each stretch,
from a ring so that first and last requests count as much as others (circular: D. N. Politis and
J. P. Romano, 1992). A block is as long as what is compared stays correlated (the integrated
autocorrelation time, with the window of A. D. Sokal, "Monte Carlo Methods in Statistical
Mechanics", 1996), at least the cube root of the length, and there are ten at least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

RESAMPLES: Final = 1000
LEVEL: Final = 0.95
_LEAST_BLOCKS: Final = 10
_WINDOW: Final = 5.0  # autocorrelation times that are summed


class Change(TypedDict):
    """A figure before and after, and its interval: `low` to `high` at 95 %.

    `gain` is (before - after) / before: above 0 is better; null where before is 0.
    """

    figure: str
    before_s: float
    after_s: float
    gain: float | None
    low: float | None
    high: float | None


Pairs: TypeAlias = Sequence[tuple[Floats, Floats]]  # before and after, one pair a stretch


class Resampling:
    """Blocks drawn once and used for every figure of a comparison."""

    def __init__(self, pairs: Pairs, *, seed: int) -> None:
        self.block = max((block_length(before - after) for before, after in pairs), default=1)
        rng = np.random.default_rng(seed)
        counts = [len(before) for before, _ in pairs]
        self._draws = [self._draw(counts, rng) for _ in range(RESAMPLES)]

    def _draw(self, counts: Sequence[int], rng: np.random.Generator) -> Integers:
        offset, drawn = 0, list[Integers]()
        for count in counts:
            drawn.append(offset + _blocks(count, self.block, rng))
            offset += count
        return np.concatenate(drawn)

    def change(self, figure: str, pairs: Pairs, *, percent: float | None = None) -> Change:
        """Of the means, or of a percentile, of what was drawn for: the same counts in each pair."""
        before = np.concatenate([before for before, _ in pairs])
        after = np.concatenate([after for _, after in pairs])
        gains = [
            gain
            for draw in self._draws
            if (gain := _gain(*_statistics(before[draw], after[draw], percent))) is not None
        ]
        before_s, after_s = _statistics(before, after, percent)
        gain = _gain(before_s, after_s)
        low = high = None
        if gain is not None and gains:
            tail = 50 * (1 - LEVEL)
            low, high = np.percentile(gains, [tail, 100 - tail]).tolist()
        return Change(
            figure=figure, before_s=before_s, after_s=after_s, gain=gain, low=low, high=high
        )


def block_length(series: Floats) -> int:
    """How many neighbours depend on each other: twice the integrated autocorrelation time."""
    count = len(series)
    most = max(count // _LEAST_BLOCKS, 1)
    least = min(math.ceil(count ** (1 / 3)), most)
    centred = series - series.mean()
    spread = float(centred @ centred)
    if spread <= 0:
        return least
    spectrum = np.fft.rfft(centred, n=2 * count)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:count] / spread
    times = 2 * np.cumsum(correlation) - 1
    enough = np.nonzero(np.arange(count) >= _WINDOW * times)[0]
    window = int(enough[0]) if len(enough) else count - 1
    return max(least, min(math.ceil(2 * float(times[window])), most))


def _blocks(count: int, block: int, rng: np.random.Generator) -> Integers:
    starts = rng.integers(0, count, size=math.ceil(count / block))
    return ((starts[:, None] + np.arange(block)) % count).ravel()[:count]


def _statistics(before: Floats, after: Floats, percent: float | None) -> tuple[float, float]:
    if percent is None:
        return float(before.mean()), float(after.mean())
    return float(np.percentile(before, percent)), float(np.percentile(after, percent))


def _gain(before_s: float, after_s: float) -> float | None:
    return (before_s - after_s) / before_s if before_s > 0 else None
