"""What published predictors make of a length: classes, ranks, spreads, what is left, neighbours.

A head is a predictor around another one; it sees answers only when they are complete. The systems
of `llmservice_lab.systems` differ by it as much as by their order.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from llmservice_sidecar.core.admission.past_future import LengthHistory
from llmservice_sidecar.core.request import Prediction

from llmservice_lab.sim_predictors import SimPredictor
from llmservice_lab.workload import WorkloadRequest

Change: TypeAlias = Callable[[Prediction], Prediction]

SSJF_CUTS: Final = (42, 141, 294, 503)  # tokens; quantiles of their training set
LTR_LONGEST: Final = 8192
LTR_STEP: Final = 10
LTR_LABELS: Final = 819
MARGIN_RATIO: Final = 1.2
WINDOW_ANSWERS: Final = 1024
MIN_ANSWERS: Final = 32
P90: Final = 0.9
ALIKE_ANSWERS: Final = 64


def answer_tokens(row: WorkloadRequest) -> int:
    """How long the answer came out: for those who may know, once it is complete."""
    limit = row.max_tokens
    return row.output_tokens if limit is None else min(row.output_tokens, limit)


def five_classes(prediction: Prediction) -> Prediction:
    """SSJF's classification head (arXiv 2404.08509): five classes, cut at 42/141/294/503 tokens.

    Each stands for the middle of its class, the last for 1.5 x its lower end.
    """
    edges = (0, *SSJF_CUTS, 2 * SSJF_CUTS[-1])
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return _said(prediction, middles[bisect_right(SSJF_CUTS, _plain(prediction))])


def ltr_label(output_tokens: float) -> int:
    """LTR's training label (arXiv 2408.15792): 819 - min(length, 8192) // 10; shorter is larger."""
    return LTR_LABELS - int(min(output_tokens, LTR_LONGEST)) // LTR_STEP


def ltr_rank(prediction: Prediction) -> Prediction:
    """A length that says no more than its label: steps of ten tokens, the same beyond 8192."""
    return _said(prediction, LTR_STEP * (LTR_LABELS - ltr_label(_plain(prediction)) + 0.5))


def margin_ties(prediction: Prediction) -> Prediction:
    """PARS (arXiv 2510.03243) learns nothing from pairs closer than 20 %: steps of that ratio."""
    step = math.floor(math.log(max(_plain(prediction), 1.0)) / math.log(MARGIN_RATIO))
    return _said(prediction, MARGIN_RATIO ** (step + 0.5))


class Around:
    """A predictor around another one that changes each prediction, and may learn by itself."""

    def __init__(self, inner: SimPredictor, change: Change | None = None) -> None:
        self._inner = inner
        self._change = change

    @property
    def starts_trusted(self) -> bool:
        return self._inner.starts_trusted

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:
        prediction = self._inner.predict(index, row)
        return prediction if self._change is None else self._change(prediction)

    def observe(self, index: int, row: WorkloadRequest) -> None:
        self._inner.observe(index, row)


class Remembering(Around):
    """Teaches a history of lengths with every complete answer; predictions stay as they are."""

    def __init__(self, inner: SimPredictor, history: LengthHistory) -> None:
        super().__init__(inner)
        self._history = history

    def observe(self, index: int, row: WorkloadRequest) -> None:
        super().observe(index, row)
        self._history.observe(answer_tokens(row))


class Spread(Around):
    """Gives predictions without a spread the one that their errors have.

    p90 = mean x the 90 % quantile of actual / predicted over the last 1,024 answers, from 32 on.
    """

    def __init__(self, inner: SimPredictor) -> None:
        super().__init__(inner)
        self._predicted: dict[int, float] = {}
        self._ratios: deque[float] = deque(maxlen=WINDOW_ANSWERS)
        self._p90_ratio = 1.0
        self._answers = 0

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:
        prediction = super().predict(index, row)
        self._predicted[index] = _plain(prediction)
        if prediction.p90_tokens > prediction.output_tokens:
            return prediction
        return replace(prediction, p90_tokens=prediction.output_tokens * self._p90_ratio)

    def observe(self, index: int, row: WorkloadRequest) -> None:
        super().observe(index, row)
        self._ratios.append(answer_tokens(row) / max(self._predicted.pop(index), 1.0))
        self._answers += 1
        if self._answers % MIN_ANSWERS == 0:
            self._p90_ratio = max(sorted(self._ratios)[int(P90 * len(self._ratios))], 1.0)


class Remaining(Around):
    """Predicts what is left after a slice, as a predictor does that reads the answer so far.

    Of the 64 complete answers with the nearest first prediction those that were longer than what
    came out: their mean, less that. Without any, and for the oracle, the first prediction less it.
    """

    def __init__(self, inner: SimPredictor) -> None:
        super().__init__(inner)
        self._first: dict[int, Prediction] = {}
        self._predicted: deque[float] = deque(maxlen=WINDOW_ANSWERS)
        self._actual: deque[int] = deque(maxlen=WINDOW_ANSWERS)
        self._sorted = (np.empty(0), np.empty(0))
        self._answers = 0

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:
        prediction = super().predict(index, row)
        self._first[index] = prediction
        return prediction

    def predict_remaining(self, index: int, row: WorkloadRequest, generated: int) -> Prediction:  # noqa: ARG002 - protocol
        """Of the tokens to come after `generated` ones."""
        first = self._first[index]
        longer = self._alike(first)
        longer = longer[longer > generated]
        if first.source == "oracle" or len(longer) == 0:
            left = max(_plain(first) - generated, 1.0)
            return replace(first, output_tokens=left, p90_tokens=left)
        return replace(
            first,
            output_tokens=float(longer.mean()) - generated,
            p90_tokens=float(np.quantile(longer, P90)) - generated,
        )

    def observe(self, index: int, row: WorkloadRequest) -> None:
        super().observe(index, row)
        self._predicted.append(_plain(self._first.pop(index)))
        self._actual.append(answer_tokens(row))
        self._answers += 1
        if self._answers % MIN_ANSWERS == 0:
            predicted, actual = np.array(self._predicted), np.array(self._actual, dtype=float)
            order = np.argsort(predicted, kind="stable")
            self._sorted = (predicted[order], actual[order])

    def _alike(self, prediction: Prediction) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        predicted, actual = self._sorted
        middle = bisect_left(predicted, _plain(prediction))
        return actual[max(middle - ALIKE_ANSWERS // 2, 0) : middle + ALIKE_ANSWERS // 2]


def _plain(prediction: Prediction) -> float:
    """The predicted tokens as a number that can be counted with; NaN counts as one token."""
    tokens = prediction.output_tokens
    return min(max(tokens, 0.0), 1e7) if tokens == tokens else 1.0  # noqa: PLR0124 - only NaN differs


def _said(prediction: Prediction, tokens: float) -> Prediction:
    """The same word with another length, its spread scaled along."""
    before = _plain(prediction)
    ratio = prediction.p90_tokens / before if before > 0 else 1.0
    return replace(prediction, output_tokens=tokens, p90_tokens=tokens * ratio)
