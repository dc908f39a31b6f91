"""From a predicted log length and its spread to tokens: mean, median, 90 % quantile.

The exponential of a mean logarithm is neither the mean nor, when errors are skewed, the median. So
recent errors decide, each in units of the spread that had been predicted for it; before there are
any, errors are taken as normal. Kinds of work differ in the shape of their errors, so what the mean
comes to over all requests is put right by what it came to.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.features import Vector

WINDOW: Final = 2048  # recent errors that count: the median's own error is about a point
ASSUMED: Final = 64  # normal errors that count beside them
SORT_EVERY: Final = 16  # outcomes at most between two looks at the window
POINTS: Final = 32  # quantiles that the mean is made of
LARGEST_Z: Final = 6.0
LARGEST_LOG_RATIO: Final = 3.0  # 20 times
LARGEST_BIAS: Final = 2.0  # times too long or too short in the mean

_NORMAL: Final = NormalDist()
_ASSUMED: Final = np.array([_NORMAL.inv_cdf((i + 0.5) / ASSUMED) for i in range(ASSUMED)])
_LEVELS: Final = (np.arange(POINTS) + 0.5) / POINTS


class Calibration:
    """A sliding window of standardised errors, own and of other replicas. No text, no lengths."""

    def __init__(self) -> None:
        self.own: Vector = np.zeros(WINDOW)
        self.learned = 0
        self.totals: Vector = np.zeros(2)  # tokens predicted in the mean, tokens that came
        self._of_peers: dict[str, Vector] = {}
        self._totals_of_peers: dict[str, Vector] = {}
        self._sort()

    def learn(self, z: float, *, log_tokens: float, deviation: float) -> None:
        """One error of an estimate: (actual - predicted) / predicted spread, in log tokens."""
        log_ratio = max(-LARGEST_LOG_RATIO, min(z * deviation, LARGEST_LOG_RATIO))
        predicted, came = self._smeared(log_tokens, deviation), math.exp(log_tokens + log_ratio)
        self.totals = self.totals * (1.0 - 1.0 / WINDOW) + (predicted, came)
        self.own[self.learned % WINDOW] = max(-LARGEST_Z, min(z, LARGEST_Z))
        self.learned += 1
        if self.learned % min(1 + self.learned // 256, SORT_EVERY) == 0:
            self._sort()

    def recent(self) -> Vector:
        """The window's own errors, oldest first."""
        if self.learned <= WINDOW:
            return self.own[: self.learned].copy()
        return np.roll(self.own, -(self.learned % WINDOW))

    def restore(self, errors: Vector, totals: Vector) -> None:
        """Own errors as `recent` gave them (the latest, if too many) and `totals`."""
        self.totals = totals.copy()
        kept = errors[-WINDOW:]
        self.own[: len(kept)] = np.clip(kept, -LARGEST_Z, LARGEST_Z)
        self.learned = len(kept)
        self._sort()

    def absorb(self, peer: str, errors: Vector, totals: Vector) -> None:
        """Errors of another replica, in place of those it had sent before; none: forget it."""
        self._of_peers.pop(peer, None)
        self._totals_of_peers.pop(peer, None)
        if len(errors):
            self._totals_of_peers[peer] = totals
            self._of_peers[peer] = np.clip(errors[-WINDOW:], -LARGEST_Z, LARGEST_Z)
        self._sort()

    def restart(self) -> None:
        """As before any outcome."""
        self.learned = 0
        self.totals = np.zeros(2)
        self._of_peers.clear()
        self._totals_of_peers.clear()
        self._sort()

    def quantile(self, log_tokens: float, deviation: float, *, level: float) -> float:
        """Tokens that a share `level` (0..1) of such answers do not exceed."""
        return math.exp(log_tokens + deviation * float(self._at(level)))

    def mean(self, log_tokens: float, deviation: float) -> float:
        """Expected tokens: the mean over recent errors (Duan's smearing estimate, 1983)."""
        return self._smeared(log_tokens, deviation) * self._bias

    def _smeared(self, log_tokens: float, deviation: float) -> float:
        ratios = np.exp(np.clip(deviation * self._points, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
        return math.exp(log_tokens) * float(ratios.mean())

    def _sort(self) -> None:
        own = self.own[: min(self.learned, WINDOW)]
        self._sorted = np.sort(np.concatenate((_ASSUMED, own, *self._of_peers.values())))
        self._points = self._at(_LEVELS)
        predicted, came = sum(self._totals_of_peers.values(), self.totals)
        known = len(self._sorted) - ASSUMED
        share = known / (known + ASSUMED)
        bias = 1.0 + share * (float(came / predicted) - 1.0) if predicted > 0.0 else 1.0
        self._bias = max(1.0 / LARGEST_BIAS, min(bias, LARGEST_BIAS))

    def _at(self, level: float | Vector) -> Vector:
        """Quantiles of the errors, between two of them in proportion."""
        count = len(self._sorted)
        return np.interp(np.multiply(level, count) - 0.5, np.arange(count), self._sorted)
