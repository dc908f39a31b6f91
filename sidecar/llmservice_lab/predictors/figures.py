"""How good predicted lengths are: rank correlation, ordered pairs, error, coverage. Pure.

All take arrays of equal length, an entry an answer, in tokens. What is not defined (fewer than two
answers, all predictions alike, no median told) is None.
"""

from __future__ import annotations

import importlib
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float64]

MOST_PAIRED: Final = 2000  # answers; more are sampled: their pairs grow as the square


def tau_b(predicted: Vector, actual: Vector) -> float | None:
    """Kendall's tau-b: 1 the same order, 0 none, -1 the opposite; ties count on both sides."""
    if not _varies(predicted) or not _varies(actual):
        return None
    # scipy ships no types, and takes half a second to load that only this figure needs.
    stats: Any = importlib.import_module("scipy.stats")
    return float(stats.kendalltau(predicted, actual).statistic)


def pairwise_accuracy(predicted: Vector, actual: Vector, *, ratio: float) -> float | None:
    """Share of pairs of answers, one at least `ratio` times the other, that are in right order.

    Equal predictions count half. Above 2,000 answers, of a sample of so many (seed 0).
    """
    if len(actual) > MOST_PAIRED:
        chosen = np.random.default_rng(0).choice(len(actual), MOST_PAIRED, replace=False)
        predicted, actual = predicted[chosen], actual[chosen]
    order = np.argsort(actual, kind="stable")
    length, said = actual[order], predicted[order]
    right, pairs = 0.0, 0
    for index, first in enumerate(np.searchsorted(length, np.maximum(length, 1.0) * ratio)):
        longer = said[max(int(first), index + 1) :]
        pairs += len(longer)
        right += float((longer > said[index]).sum()) + 0.5 * float((longer == said[index]).sum())
    return right / pairs if pairs else None


def mae(predicted: Vector, actual: Vector) -> float | None:
    """Mean absolute error, in tokens."""
    return float(np.abs(predicted - actual).mean()) if len(actual) else None


def coverage(upper: Vector | None, actual: Vector) -> float | None:
    """Share of answers not longer than what was said; a good p90 has 0.9."""
    return None if upper is None or not len(actual) else float((actual <= upper).mean())


def _varies(values: Vector) -> bool:
    return len(values) > 1 and float(values.min()) < float(values.max())
