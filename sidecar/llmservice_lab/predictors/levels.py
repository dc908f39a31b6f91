"""Gives predictions the level and spread of the served model, learned from other answers. Pure.

A predictor that has met no answer of a model cannot know how much that model writes. So that errors
in tokens and coverage compare predictors and not levels, each gets for each source and model: a
line in logarithms (its slope held near 1) and the quantiles of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.figures import Vector
from llmservice_lab.predictors.judging import Said, by_source_and_model

SLOPE_PRIOR: Final = 5.0  # summed squares of ln tokens that hold the slope at 1
LEAST_ANSWERS: Final = 20  # a model with fewer gets what all answers say together


class _Line(NamedTuple):
    level: float
    slope: float
    mean: float
    p50: float
    p90: float


def levelled(
    samples: Sequence[Sample], said: Said, *, known: Sequence[Sample], said_known: Said
) -> Said:
    """What was said of `samples`, levelled by answers `known`, of which it said `said_known`."""
    every = _fit(np.log(said_known.median), _logs(known))
    logs = _logs(known)
    lines = {
        key: _fit(np.log(said_known.median[index]), logs[index])
        for key, index in by_source_and_model(known).items()
        if len(index) >= LEAST_ANSWERS
    }
    mean, p50, p90 = (np.full(len(samples), math.nan) for _ in range(3))
    out = Said(mean, p50, p90, said.seconds)
    for key, index in by_source_and_model(samples).items():
        line = lines.get(key, every)
        center = line.level + line.slope * np.log(said.median[index])
        out.mean[index] = np.exp(center + line.mean)
        out.p50[index] = np.exp(center + line.p50)
        out.p90[index] = np.exp(center + line.p90)
    return out


def _fit(said: Vector, actual: Vector) -> _Line:
    """Least squares with a prior at slope 1; the rest is what it leaves over."""
    apart = said - said.mean()
    slope = float(apart @ (actual - actual.mean())) + SLOPE_PRIOR
    slope = max(slope / (float(apart @ apart) + SLOPE_PRIOR), 0.0)
    level = float(actual.mean() - slope * said.mean())
    left = actual - level - slope * said
    p50, p90 = np.percentile(left, [50, 90]).tolist()
    return _Line(level, slope, math.log(float(np.exp(left).mean())), p50, p90)


def _logs(samples: Sequence[Sample]) -> Vector:
    return np.log([float(max(sample.output_tokens, 1)) for sample in samples])
