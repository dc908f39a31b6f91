"""How good were the predictions? By model: rank correlation, error, coverage, and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from llmservice_lab.analysis.columns import Vector
from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.predictors.figures import coverage, mae, tau_b

_FEWEST: Final = 20
_MOST_MODELS: Final = 20
ALL_MODELS: Final = "(all)"


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of like prediction: what was said, and what came true."""

    n: int
    predicted: float  # median
    actual_p10: float
    actual_p50: float
    actual_p90: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Of the completed answers of one model that had a prediction; None: too few to say."""

    model: str
    n: int
    tau: float | None
    mean_absolute_error_tokens: float | None
    coverage_p50: float | None  # 0.5 is right
    coverage_p90: float | None  # 0.9 is right
    sources: dict[str, int]
    bins: list[Bin]


def calibrations(requests: Sequence[TracedRequest]) -> list[Calibration]:
    """All models together, then those with most answers."""
    judged = [one for one in requests if one.completed and one.actual_tokens is not None]
    judged = [one for one in judged if one.predicted_tokens is not None]
    by_model: dict[str, list[TracedRequest]] = {}
    for one in judged:
        by_model.setdefault(one.model, []).append(one)
    most = sorted(by_model, key=lambda name: (-len(by_model[name]), name))[:_MOST_MODELS]
    every = [_of(ALL_MODELS, judged)] if judged else []
    return [*every, *(_of(name, by_model[name]) for name in most if len(by_model) > 1)]


def _of(model: str, judged: Sequence[TracedRequest]) -> Calibration:
    predicted = _vector([one.predicted_tokens for one in judged])
    actual = _vector([one.actual_tokens for one in judged])
    enough = len(judged) >= _FEWEST
    sources: dict[str, int] = {}
    for one in judged:
        sources[one.prediction_source] = sources.get(one.prediction_source, 0) + 1
    return Calibration(
        model=model,
        n=len(judged),
        tau=tau_b(predicted, actual) if enough else None,
        mean_absolute_error_tokens=mae(predicted, actual),
        coverage_p50=_coverage([one.predicted_p50 for one in judged], actual),
        coverage_p90=_coverage([one.predicted_p90 for one in judged], actual),
        sources=sources,
        bins=_bins(predicted, actual) if enough else [],
    )


def _coverage(upper: Sequence[float | None], actual: Vector) -> float | None:
    said = _vector(upper)
    told = ~np.isnan(said)
    return coverage(said[told], actual[told]) if told.sum() >= _FEWEST else None


def _bins(predicted: Vector, actual: Vector) -> list[Bin]:
    order = np.argsort(predicted, kind="stable")
    found: list[Bin] = []
    for rows in np.array_split(order, 20 if len(order) >= 400 else 5):
        p10, p50, p90 = (float(value) for value in np.quantile(actual[rows], (0.1, 0.5, 0.9)))
        found.append(
            Bin(
                n=len(rows),
                predicted=float(np.median(predicted[rows])),
                actual_p10=p10,
                actual_p50=p50,
                actual_p90=p90,
            )
        )
    return found


def _vector(values: Sequence[float | None]) -> Vector:
    return np.array(values, dtype=np.float64)
