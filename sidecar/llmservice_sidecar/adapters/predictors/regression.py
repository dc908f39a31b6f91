"""Linear regression that learns from one sample at a time and slowly forgets.

A Kalman filter on the weights: ridge regression's answer without its matrix. The dense weights have
a full covariance (a few dozen features, strongly related), the hashed ones a diagonal (thousands,
nearly independent). Process noise lets old evidence fade, up to the prior and no further.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.features import DENSE, HASHED, Features, Vector

DENSE_PRIOR: Final = 1.0  # variance of a weight before any evidence
BIAS_PRIOR: Final = 9.0
HASHED_PRIOR: Final = 0.2
TYPICAL_LOG_TOKENS: Final = 5.0  # e^5: about 150 tokens, where the bias starts
DENSE_DRIFT: Final = 1e-5  # variance added per sample: what was learned long ago fades
HASHED_DRIFT: Final = 1e-5
DRIFT_EVERY: Final = 64
NOISE_START: Final = 0.5  # variance of log tokens around the prediction
NOISE_BOUNDS: Final = (0.05, 4.0)
NOISE_DECAY: Final = 1.0 / 256.0
SURPRISE_DECAY: Final = 1.0 / 32.0
SURPRISE_BOUND: Final = 3.0  # times the expected squared error, over about 32 samples: a new world
OUTLIER: Final = 3.0  # standard deviations: one absurd answer moves the weights no further


@dataclass(frozen=True, slots=True)
class Estimate:
    """A normal distribution of the target: log of output tokens."""

    mean: float
    deviation: float


class RecursiveRegression:
    """Predicts a target from features and learns from each outcome. Not thread-safe."""

    def __init__(self) -> None:
        self.samples = 0
        self._forget()

    def _forget(self) -> None:
        """Every weight as before any evidence."""
        self.dense = np.zeros(DENSE)
        self.dense[0] = TYPICAL_LOG_TOKENS
        self.covariance = np.eye(DENSE) * DENSE_PRIOR
        self.covariance[0, 0] = BIAS_PRIOR
        self.hashed = np.zeros(HASHED)
        self.variance = np.full(HASHED, HASHED_PRIOR)
        self.noise = NOISE_START
        self.surprise = 1.0  # squared error over what was expected, recent mean

    def estimate(self, features: Features) -> Estimate:
        """The target's distribution for one prompt."""
        x, values = features.dense, features.values
        mean = x @ self.dense + values @ self.hashed[features.bins]
        spread = x @ self.covariance @ x + values**2 @ self.variance[features.bins]
        return Estimate(float(mean), math.sqrt(self.noise + max(float(spread), 0.0)))

    def learn(self, features: Features, target: float) -> None:
        """One outcome: weights move by what it surprises, confidence grows where it speaks."""
        x, bins, values = features.dense, features.bins, features.values
        error = target - float(x @ self.dense + values @ self.hashed[bins])
        dense_gain: Vector = self.covariance @ x
        hashed_gain: Vector = self.variance[bins] * values
        total = self.noise + float(x @ dense_gain) + float(values @ hashed_gain)
        reach = OUTLIER * math.sqrt(total)
        step = max(-reach, min(reach, error)) / total
        self.dense += dense_gain * step
        self.hashed[bins] += hashed_gain * step
        self.covariance -= np.outer(dense_gain, dense_gain) / total
        self.variance[bins] -= hashed_gain**2 / total
        self._update_noise(error * error * self.noise / total)
        self._watch(error * error / total)
        self.samples += 1
        if self.samples % DRIFT_EVERY == 0:
            self._drift()

    def _update_noise(self, square: float) -> None:
        """`square` is the part of the squared error that is not the weights' own uncertainty."""
        lowest, highest = NOISE_BOUNDS
        self.noise += NOISE_DECAY * (min(square, highest) - self.noise)
        self.noise = max(lowest, self.noise)

    def _watch(self, square: float) -> None:
        """Start anew in a new world: old weights would be in the way longer than none at all."""
        self.surprise += SURPRISE_DECAY * (min(square, OUTLIER**2) - self.surprise)
        if self.surprise > SURPRISE_BOUND:
            self._forget()

    def _drift(self) -> None:
        diagonal = np.einsum("ii->i", self.covariance)  # a view: the covariance itself changes
        diagonal += np.where(diagonal < DENSE_PRIOR, DENSE_DRIFT * DRIFT_EVERY, 0.0)
        np.minimum(self.variance + HASHED_DRIFT * DRIFT_EVERY, HASHED_PRIOR, out=self.variance)
