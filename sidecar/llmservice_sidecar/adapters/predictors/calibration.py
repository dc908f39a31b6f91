"""From a predicted log length to tokens: the conditional mean and the 90 % quantile.

The exponential of a mean logarithm is a median; the mean is larger, by how much depends on the
spread, which differs between short and long answers. So what followed predictions of about the same
size decides, with an exponentially fading memory.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.features import Vector

GRID: Final = np.arange(0.0, 14.5, 0.5)  # log tokens: 1 to 1.2 million
PRIOR_WEIGHT: Final = 20.0  # samples that the overall ratio counts for at each grid point
DECAY: Final = 1.0 / 2000.0
QUANTILE: Final = 0.9
QUANTILE_START: Final = 1.0  # log of p90 over median before any evidence: 2.7 times
QUANTILE_STEPS: Final = (0.2, 0.02)  # first and smallest step of the running quantile
LARGEST_LOG_RATIO: Final = 3.0


class Calibration:
    """Running ratios of actual tokens to exp(predicted log tokens), by predicted size."""

    def __init__(self) -> None:
        self.weight: Vector = np.zeros(len(GRID))
        self.ratios: Vector = np.zeros(len(GRID))  # sum, not mean
        self.quantile: Vector = np.full(len(GRID), QUANTILE_START)

    def learn(self, log_predicted: float, log_actual: float) -> None:
        """One outcome, in log tokens; the prediction must have been made before it."""
        low, share = _place(log_predicted)
        log_ratio = _clip(log_actual - log_predicted, LARGEST_LOG_RATIO)
        self.weight *= 1.0 - DECAY
        self.ratios *= 1.0 - DECAY
        for index, part in ((low, 1.0 - share), (low + 1, share)):
            # Ratios are weighed alike: one long answer must not outvote many short ones.
            self.ratios[index] += part * math.exp(log_ratio)
            self.weight[index] += part
            first, smallest = QUANTILE_STEPS
            step = part * max(smallest, first / (1.0 + self.weight[index] / 10.0))
            above = log_ratio > self.quantile[index]
            self.quantile[index] += step * (QUANTILE if above else QUANTILE - 1.0)

    def mean(self, log_predicted: float) -> float:
        """Expected tokens; never falls when the predicted log length rises."""
        total = float(self.weight.sum())
        overall = float(self.ratios.sum()) / total if total else 1.0
        ratios = (self.ratios + PRIOR_WEIGHT * overall) / (self.weight + PRIOR_WEIGHT)
        log_means = np.maximum.accumulate(GRID + np.log(ratios))
        low, share = _place(log_predicted)
        return math.exp((1.0 - share) * log_means[low] + share * log_means[low + 1])

    def p90(self, log_predicted: float) -> float:
        """Tokens that nine of ten such answers do not exceed."""
        low, share = _place(log_predicted)
        reach = (1.0 - share) * self.quantile[low] + share * self.quantile[low + 1]
        return math.exp(_clip(log_predicted, float(GRID[-1])) + max(0.0, float(reach)))


def _place(log_predicted: float) -> tuple[int, float]:
    """The grid point below and how far the value is towards the next (0..1)."""
    position = min(max(log_predicted, 0.0), float(GRID[-1])) / float(GRID[1])
    low = min(int(position), len(GRID) - 2)
    return low, position - low


def _clip(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))
