"""What a head learned from its requests, the prior that this is evidence beside, and its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.learned.calibration import BIAS_WINDOW
from llmservice_sidecar.adapters.predictors.learned.estimate import LONGEST_LOG
from llmservice_sidecar.adapters.predictors.learned.regression import NOISE, Evidence
from llmservice_sidecar.adapters.predictors.learned.request_cues import CUES
from llmservice_sidecar.adapters.predictors.shipped.base import DENSE, LARGEST_DENSE, LOG_BOUNDS
from llmservice_sidecar.adapters.predictors.shipped.features import HASHED, Vector

TYPICAL: Final = 5.0  # log tokens: about 150
INPUTS: Final = (
    DENSE + CUES + 2
)  # the description, what else the request says, the shipped guess, a constant
DENSE_PRIOR: Final = 0.002  # variance of a weight before any evidence
CUES_PRIOR: Final = 0.5  # thinking makes an answer ten times as long
GUESS_PRIOR: Final = 0.25
BIAS_PRIOR: Final = 1.0
HASHED_PRIOR: Final = 0.25
MIX: Final = (0.5, 0.5, 0.0, 0.0)  # dense, hashed, shipped guess, constant
MIX_PRIOR: Final = (0.05, 0.05, 0.05, 0.2)
FORGET_EVERY: Final = 1024  # outcomes
FORGET: Final = 0.96  # of the evidence stays: half after 17,000 outcomes
HORIZON: Final = round(FORGET_EVERY / (1.0 - FORGET))  # outcomes: evidence of more is forgotten
LARGEST_HASHED: Final = 1.5  # of the values of word n-grams
SLACK: Final = 2.0  # sums are told rounded, and learned with errors that are cut
LARGEST_TOTAL: Final = BIAS_WINDOW * math.exp(LONGEST_LOG + 3.0)


@dataclass(frozen=True, slots=True)
class Prior:
    """Weights and the variance of each before any evidence."""

    mean: Vector  # (inputs, targets), or (inputs,) of a diagonal
    variance: Vector  # (inputs,)


def _dense_prior() -> Prior:
    mean = np.zeros((INPUTS, 2))  # targets: log tokens, log of the spread's correction
    mean[-2, 0] = 1.0
    mean[-1, 0] = TYPICAL
    variance = np.full(INPUTS, DENSE_PRIOR)
    variance[DENSE : DENSE + CUES] = CUES_PRIOR
    variance[-2:] = GUESS_PRIOR, BIAS_PRIOR
    return Prior(mean, variance)


def _hashed_prior() -> Prior:
    mean, variance = np.zeros(HASHED + 1), np.full(HASHED + 1, HASHED_PRIOR)
    mean[-1], variance[-1] = TYPICAL, BIAS_PRIOR
    return Prior(mean, variance)


DENSE_START: Final = _dense_prior()
HASHED_START: Final = _hashed_prior()
MIX_START: Final = Prior(np.array(MIX)[:, None], np.array(MIX_PRIOR))


@dataclass(frozen=True, slots=True)
class Lesson:
    """All that a head learned from its requests, for other replicas and for restarts."""

    samples: int
    epoch: int  # changes of the world before: what another replica told of an earlier one is void
    dense: Evidence
    hashed: Evidence
    mix: Evidence
    errors: Vector  # recent, standardised, with their kinds: as `Calibration.recent`
    offsets: Vector  # by which its quantiles are put right
    totals: Vector  # tokens predicted in the mean, tokens that came

    @property
    def parts(self) -> tuple[Evidence, Evidence, Evidence]:
        """Evidence in the order of `Head.regressions`."""
        return self.dense, self.hashed, self.mix

    def plus(self, other: Lesson) -> Lesson:
        """Both together, in this one's epoch."""
        dense, hashed, mix = (
            mine.plus(its) for mine, its in zip(self.parts, other.parts, strict=True)
        )
        errors = np.concatenate((other.errors, self.errors))
        totals = self.totals + other.totals
        samples = self.samples + other.samples
        return Lesson(samples, self.epoch, dense, hashed, mix, errors, self.offsets, totals)

    def times(self, factor: float) -> Lesson:
        """As if told by that share (0..1) of the samples."""
        dense, hashed, mix = (part.times(factor) for part in self.parts)
        samples = round(self.samples * factor)
        totals = self.totals * factor
        return Lesson(samples, self.epoch, dense, hashed, mix, self.errors, self.offsets, totals)


def weight(samples: int) -> int:
    """Outcomes that evidence from so many can weigh as: the rest is forgotten."""
    return min(samples, HORIZON)


def check(lesson: Lesson) -> None:
    """Raises ValueError, saying which part, when no requests could have taught it.

    Inputs and log lengths have bounds, so sums over them have: precision (sum of x x' / noise) by
    the largest inputs, shift (sum of x y / noise) by Cauchy-Schwarz.
    """
    count = weight(lesson.samples) + 1.0
    for name, part, largest in zip(("dense", "hashed", "mix"), lesson.parts, _LARGEST, strict=True):
        diagonal = np.diag(part.precision) if part.precision.ndim > 1 else part.precision
        most = SLACK * count * np.square(largest) / NOISE
        if not ((diagonal >= 0.0) & (diagonal <= most)).all():
            raise ValueError(f"{name}: a precision that {lesson.samples} outcomes cannot give")
        farthest = np.sqrt((diagonal + _LEAST) * count * SLACK / NOISE) * SLACK * LONGEST_LOG
        shift = np.abs(part.shift).reshape(len(diagonal), -1).max(axis=1)
        if not np.all(shift <= farthest):
            raise ValueError(f"{name}: a shift that {lesson.samples} outcomes cannot give")
    if lesson.totals.min() < 0.0 or lesson.totals.max() > LARGEST_TOTAL:
        raise ValueError(f"totals {lesson.totals.tolist()}; allowed: 0 to {LARGEST_TOTAL:.3g}")


def _largest_inputs() -> tuple[Vector, Vector, Vector]:
    dense = np.full(INPUTS, LARGEST_DENSE)
    dense[-2:] = LOG_BOUNDS[1] - TYPICAL, 1.0
    hashed = np.full(HASHED + 1, LARGEST_HASHED)
    hashed[-1] = 1.0
    return dense, hashed, np.full(len(MIX), 2.0 * LONGEST_LOG)  # its inputs are outputs


_LARGEST: Final = _largest_inputs()
_LEAST: Final = 1.0  # precision that rounding may hide
