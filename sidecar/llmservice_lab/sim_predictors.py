"""Predictors for simulated runs: from the truth itself to the opposite of it.

Each is made for one run. Those that look at `output_tokens` exist in simulations only; a deployed
predictor is given a query without it.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, Protocol

from llmservice_sidecar.core.request import UNPREDICTED_TOKENS, Prediction

from llmservice_lab.results import rank_tau
from llmservice_lab.workload import WorkloadRequest

WINDOW_RANKS: Final = 301
TAU_TOLERANCE: Final = 0.01
MAX_TRIES: Final = 60


class SimPredictor(Protocol):
    """Predicts the request with this index in order of arrival, and learns from finished ones."""

    @property
    def starts_trusted(self) -> bool:
        """Does the guard let it order the queue before there is evidence?"""
        ...

    def predict(self, index: int, row: WorkloadRequest) -> Prediction: ...

    def observe(self, index: int, row: WorkloadRequest) -> None: ...


class Fixed:
    """Predictions that are there before the run, one a request; learns nothing."""

    def __init__(self, tokens: Sequence[float], *, source: str) -> None:
        self._tokens = tokens
        self._source = source

    @property
    def starts_trusted(self) -> bool:
        return True

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:  # noqa: ARG002 - protocol
        tokens = self._tokens[index]
        return Prediction(tokens, tokens, self._source)

    def observe(self, index: int, row: WorkloadRequest) -> None:
        """Nothing to learn."""


class Constant:
    """The same for everybody. Untrusted, it stands for having no predictor: arrival order."""

    def __init__(self, *, starts_trusted: bool = True) -> None:
        self._starts_trusted = starts_trusted

    @property
    def starts_trusted(self) -> bool:
        return self._starts_trusted

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:  # noqa: ARG002 - protocol
        return Prediction(UNPREDICTED_TOKENS, UNPREDICTED_TOKENS, "prior")

    def observe(self, index: int, row: WorkloadRequest) -> None:
        """Nothing to learn."""


def oracle(rows: Sequence[WorkloadRequest]) -> Fixed:
    """The truth."""
    return Fixed([float(row.output_tokens) for row in rows], source="oracle")


def shuffled(rows: Sequence[WorkloadRequest], *, rng: random.Random) -> Fixed:
    """The truth of some other request: right on average, worthless as a rank."""
    tokens = [float(row.output_tokens) for row in rows]
    rng.shuffle(tokens)
    return Fixed(tokens, source="random")


def inverted(rows: Sequence[WorkloadRequest]) -> Fixed:
    """The i-th shortest gets the length of the i-th longest: the worst possible ranks."""
    truth = sorted(float(row.output_tokens) for row in rows)
    # Equal lengths share one prediction, or their order would be information of its own.
    return Fixed(
        [truth[-1 - bisect_left(truth, row.output_tokens)] for row in rows], source="inverted"
    )


def noisy(rows: Sequence[WorkloadRequest], *, tau: float, rng: random.Random) -> Fixed:
    """Predictions whose Kendall tau-b with the truth is `tau` within 0.01.

    k = ln(truth) + sigma x N(0, 1); the prediction is the mean truth over the 301 nearest ranks of
    k (fewer at both ends), sigma is solved for. Raises ValueError when no sigma gives this tau.
    """
    truth = [row.output_tokens for row in rows]
    noise = [rng.gauss(0.0, 1.0) for _ in rows]
    # Above this noise the ranks of k are those of the noise.
    low, high, reached = 0.0, 1e3, 1.0
    for _ in range(MAX_TRIES):
        # The answer is mostly between .1 and 10: halve ratios once there is a lower bound.
        sigma = math.sqrt(low * high) if low else min(high / 2, 1.0)
        predicted = _smoothed(truth, noise, sigma)
        reached = rank_tau(list(zip(predicted, truth, strict=True))) or 0.0
        if abs(reached - tau) <= TAU_TOLERANCE:
            return Fixed(predicted, source="noisy")
        low, high = (sigma, high) if reached > tau else (low, sigma)
    raise ValueError(
        f"no noise gives tau={tau:g} on these {len(rows)} requests (last try {reached:.3f}); "
        "allowed: above 0, below 1, and more requests allow more"
    )


def _smoothed(truth: Sequence[int], noise: Sequence[float], sigma: float) -> list[float]:
    keys = [math.log(tokens) + sigma * z for tokens, z in zip(truth, noise, strict=True)]
    order = sorted(range(len(truth)), key=keys.__getitem__)
    sums = [0, *accumulate(truth[index] for index in order)]
    half = WINDOW_RANKS // 2
    predicted = [0.0] * len(truth)
    for rank, index in enumerate(order):
        first, last = max(rank - half, 0), min(rank + half + 1, len(order))
        predicted[index] = (sums[last] - sums[first]) / (last - first)
    return predicted
