"""From a predicted log length and its spread to tokens: mean, median, 90 % quantile.

The exponential of a mean logarithm is neither the mean nor, when errors are skewed, the median. So
recent errors decide, each in units of the spread that had been predicted for it; before there are
any, errors have the shape that they have with a model that is not known.

Kinds of work differ in the shape of their errors. For quantiles, errors of prompts of which the
shipped model had said the like count more (localised conformal prediction, arXiv 2106.08460), and
each quantile follows what came to lie below it (quantile tracking, arXiv 2307.16895): whatever the
errors do, the shares converge to what they are called. The mean is put right over all requests by
what it came to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from llmservice_sidecar.adapters.predictors.shipped.base import Description
from llmservice_sidecar.adapters.predictors.shipped.features import Vector

LEVELS: Final = np.array([0.5, 0.9])  # the quantiles that are told
WINDOW: Final = 1024  # recent errors that count, and as many of other replicas
ASSUMED: Final = 16  # errors that count beside them: those of everywhere, before any assumed ones
ASSUMED_MEDIAN: Final = 0.1  # of errors of the shipped model with served models not met
ASSUMED_SPREAD: Final = 0.9  # in predicted ones
BREADTHS: Final = (0.4, 0.15)  # of alike in log tokens and in the log of their spread
# By which a quantile follows one outcome, in predicted spreads. What haste wins after a change it
# loses at rest: shares waver by two points then. The median, with more outcomes near, wavers more.
PACES: Final = np.array([0.007, 0.02])
SORT_EVERY: Final = 16  # outcomes at most between two looks at the window
POINTS: Final = 32  # quantiles that the mean is made of
NORMALS: Final = 64  # normal errors that count beside those for the mean: long tails rank best
LARGEST_Z: Final = 6.0
LARGEST_LOG_RATIO: Final = 3.0  # 20 times
LARGEST_BIAS: Final = 2.0  # times too long or too short in the mean
BIAS_WINDOW: Final = 2048  # outcomes whose tokens the mean is compared with, roughly
BIAS_AFTER: Final = 64  # outcomes after which half of it is believed
COLUMNS: Final = 3  # of what is kept of an error: itself, and the two numbers of a `Kind`

_NORMAL: Final = NormalDist()


def _levels(count: int) -> Vector:
    return (np.arange(count) + 0.5) / count


_POINTS: Final = _levels(POINTS)


def _normals(count: int) -> Vector:
    return np.array([_NORMAL.inv_cdf(level) for level in _levels(count).tolist()])


_UNKNOWN: Final = ASSUMED_MEDIAN + ASSUMED_SPREAD * _normals(ASSUMED)
_PLAIN: Final = _normals(NORMALS)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a prompt's errors are like those of: log tokens, log of their spread, as shipped."""

    log_tokens: float
    log_spread: float

    @classmethod
    def of(cls, description: Description) -> Kind:
        """The kind of a described prompt."""
        return cls(description.log_tokens, math.log(description.log_deviation))


class Calibration:
    """A sliding window of standardised errors, own and of other replicas. No text, no lengths."""

    def __init__(self) -> None:
        self.assumed: Vector = _UNKNOWN  # `ASSUMED` errors, ascending
        self.own: Vector = np.zeros((WINDOW, COLUMNS))
        self.learned = 0
        self.offsets: Vector = np.zeros(len(LEVELS))  # of quantiles, for shares to be `LEVELS`
        self.totals: Vector = np.zeros(2)  # tokens predicted in the mean, tokens that came
        self._of_peers: dict[str, Vector] = {}
        self._totals_of_peers: dict[str, Vector] = {}
        self._sort()

    def learn(self, z: float, *, log_tokens: float, deviation: float, kind: Kind) -> None:
        """One error of an estimate: (actual - predicted) / predicted spread, in log tokens."""
        self._follow(z <= self._errors_at(kind))
        log_ratio = max(-LARGEST_LOG_RATIO, min(z * deviation, LARGEST_LOG_RATIO))
        predicted, came = self._smeared(log_tokens, deviation), math.exp(log_tokens + log_ratio)
        self.totals = self.totals * (1.0 - 1.0 / BIAS_WINDOW) + (predicted, came)
        bounded = max(-LARGEST_Z, min(z, LARGEST_Z))
        self.own[self.learned % WINDOW] = bounded, kind.log_tokens, kind.log_spread
        self.learned += 1
        if self.learned % min(1 + self.learned // 128, SORT_EVERY) == 0:
            self._sort()

    def recent(self) -> Vector:
        """The window's own errors with their kinds (n, `COLUMNS`), oldest first."""
        if self.learned <= WINDOW:
            return self.own[: self.learned].copy()
        return np.roll(self.own, -(self.learned % WINDOW), axis=0)

    def restore(self, errors: Vector, *, totals: Vector, offsets: Vector) -> None:
        """Own errors as `recent` gave them (the latest, if too many), `totals` and `offsets`."""
        self.totals = totals.copy()
        self.offsets = np.clip(offsets, -LARGEST_Z, LARGEST_Z)
        kept = _bounded(errors)
        self.own[: len(kept)] = kept
        self.learned = len(kept)
        self._sort()

    def absorb(self, told: Mapping[str, tuple[Vector, Vector]]) -> None:
        """Errors and totals of other replicas, in place of those they had sent before.

        No errors: forget that replica.
        """
        for peer, (errors, totals) in told.items():
            self._of_peers.pop(peer, None)
            self._totals_of_peers.pop(peer, None)
            if len(errors):
                self._totals_of_peers[peer] = totals
                self._of_peers[peer] = _bounded(errors)
        self._sort()

    def assume(self, errors: Vector) -> None:
        """Until there are own ones, take errors to be like these `ASSUMED` (of another model)."""
        self.assumed = np.sort(np.clip(errors, -LARGEST_Z, LARGEST_Z))
        self._sort()

    def typical(self) -> Vector:
        """Recent errors in brief: `ASSUMED` of their quantiles, ascending."""
        return self._anchors.copy()

    def restart(self) -> None:
        """As before any outcome."""
        self.learned = 0
        self.offsets = np.zeros(len(LEVELS))
        self.totals = np.zeros(2)
        self._of_peers.clear()
        self._totals_of_peers.clear()
        self._sort()

    def quantiles(self, log_tokens: float, deviation: float, *, kind: Kind) -> tuple[float, float]:
        """Tokens that half and 90 % of such answers do not exceed, the larger last."""
        median, upper = (log_tokens + deviation * self._errors_at(kind)).tolist()
        return math.exp(median), math.exp(upper)

    def mean(self, log_tokens: float, deviation: float) -> float:
        """Expected tokens: the mean over recent errors (Duan's smearing estimate, 1983)."""
        return self._smeared(log_tokens, deviation) * self._bias

    def _errors_at(self, kind: Kind) -> Vector:
        """The standardised errors at `LEVELS`, as far as is known of this kind."""
        guess, spread = BREADTHS
        away = np.square((self._kinds[0] - kind.log_tokens) / guess)
        away += np.square((self._kinds[1] - kind.log_spread) / spread)
        near = np.exp(-0.5 * away)
        near[self._anchored] = 1.0  # of every kind
        reach = np.cumsum(near)
        middle = (reach - 0.5 * near) / reach[-1]
        found: Vector = np.asarray(np.interp(LEVELS, middle, self._sorted), dtype=np.float64)
        return np.maximum.accumulate(found + self.offsets)  # each on its own they could cross

    def _follow(self, below: npt.NDArray[np.bool_]) -> None:
        """Move quantiles by whether an answer was not longer than they had said."""
        moved = self.offsets + PACES * (LEVELS - below)
        self.offsets = np.clip(moved, -LARGEST_Z, LARGEST_Z)

    def _smeared(self, log_tokens: float, deviation: float) -> float:
        ratios = np.exp(np.clip(deviation * self._points, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
        return math.exp(log_tokens) * float(ratios.mean())

    def _sort(self) -> None:
        share = WINDOW // max(len(self._of_peers), 1)  # so that a prediction's cost has a bound
        own = self.own[: min(self.learned, WINDOW)]
        errors = np.concatenate((own, *(told[-share:] for told in self._of_peers.values())))
        self._points = _at(_POINTS, np.concatenate((_PLAIN, errors[:, 0])))
        self._anchors = _at(_levels(ASSUMED), np.concatenate((self.assumed, errors[:, 0])))
        anchors = np.column_stack((self._anchors, np.zeros((ASSUMED, COLUMNS - 1))))
        rows = np.concatenate((anchors, errors))
        order = np.argsort(rows[:, 0], kind="stable")
        self._anchored = np.flatnonzero(order < ASSUMED)
        self._sorted, *self._kinds = np.ascontiguousarray(rows[order].T)
        self._compare(len(errors))

    def _compare(self, known: int) -> None:
        predicted, came = sum(self._totals_of_peers.values(), self.totals)
        share = known / (known + BIAS_AFTER)
        bias = 1.0 + share * (float(came / predicted) - 1.0) if predicted > 0.0 else 1.0
        self._bias = max(1.0 / LARGEST_BIAS, min(bias, LARGEST_BIAS))


def _bounded(errors: Vector) -> Vector:
    kept = errors[-WINDOW:].copy()
    kept[:, 0] = np.clip(kept[:, 0], -LARGEST_Z, LARGEST_Z)
    return kept


def _at(levels: Vector, errors: Vector) -> Vector:
    """Quantiles of errors, between two of them in proportion."""
    count = len(errors)
    return np.interp(levels * count - 0.5, np.arange(count), np.sort(errors))
