"""From a predicted log length and its spread to tokens: mean, median, 90 % quantile.

The exponential of a mean logarithm is neither the mean nor, when errors are skewed, the median. So
recent errors decide, each in units of the spread that had been predicted for it; before there are
any, errors are taken as normal.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.features import Vector

WINDOW: Final = 2048  # recent errors that count: the median's own error is about a point
ASSUMED: Final = 64  # normal errors that count beside them
SORT_EVERY: Final = 16  # outcomes between two looks at the window
POINTS: Final = 32  # quantiles that the mean is made of
LARGEST_Z: Final = 6.0
LARGEST_LOG_RATIO: Final = 3.0  # 20 times

_NORMAL: Final = NormalDist()
_ASSUMED: Final = np.array([_NORMAL.inv_cdf((i + 0.5) / ASSUMED) for i in range(ASSUMED)])
_LEVELS: Final = (np.arange(POINTS) + 0.5) / POINTS


class Calibration:
    """A sliding window of standardised errors, own and of other replicas. No text, no lengths."""

    def __init__(self) -> None:
        self.own: Vector = np.zeros(WINDOW)
        self.learned = 0
        self._of_peers: dict[str, Vector] = {}
        self._sort()

    def learn(self, z: float) -> None:
        """One error: (actual - predicted) / predicted spread, in log tokens."""
        self.own[self.learned % WINDOW] = max(-LARGEST_Z, min(z, LARGEST_Z))
        self.learned += 1
        if self.learned % SORT_EVERY == 0 or self.learned <= SORT_EVERY:
            self._sort()

    def recent(self) -> Vector:
        """The window's own errors, oldest first."""
        if self.learned <= WINDOW:
            return self.own[: self.learned].copy()
        return np.roll(self.own, -(self.learned % WINDOW))

    def restore(self, errors: Vector) -> None:
        """Own errors as `recent` gave them; the latest count if there are too many."""
        kept = errors[-WINDOW:]
        self.own[: len(kept)] = np.clip(kept, -LARGEST_Z, LARGEST_Z)
        self.learned = len(kept)
        self._sort()

    def absorb(self, peer: str, errors: Vector) -> None:
        """Errors of another replica, in place of those it had sent before; none: forget it."""
        self._of_peers.pop(peer, None)
        if len(errors):
            self._of_peers[peer] = np.clip(errors[-WINDOW:], -LARGEST_Z, LARGEST_Z)
        self._sort()

    def restart(self) -> None:
        """As before any outcome."""
        self.learned = 0
        self._of_peers.clear()
        self._sort()

    def quantile(self, log_tokens: float, deviation: float, *, level: float) -> float:
        """Tokens that a share `level` (0..1) of such answers do not exceed."""
        return math.exp(log_tokens + deviation * float(self._at(level)))

    def mean(self, log_tokens: float, deviation: float) -> float:
        """Expected tokens: the mean over recent errors (Duan's smearing estimate, 1983)."""
        ratios = np.exp(np.clip(deviation * self._points, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
        return math.exp(log_tokens) * float(ratios.mean())

    def _sort(self) -> None:
        own = self.own[: min(self.learned, WINDOW)]
        self._sorted = np.sort(np.concatenate((_ASSUMED, own, *self._of_peers.values())))
        self._points = self._at(_LEVELS)

    def _at(self, level: float | Vector) -> Vector:
        """Quantiles of the errors, between two of them in proportion."""
        count = len(self._sorted)
        return np.interp(np.multiply(level, count) - 0.5, np.arange(count), self._sorted)
