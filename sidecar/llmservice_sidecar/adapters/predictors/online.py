"""The default predictor: learns output lengths from finished requests, keeps no text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

from llmservice_sidecar.adapters.predictors.calibration import Calibration
from llmservice_sidecar.adapters.predictors.features import extract
from llmservice_sidecar.adapters.predictors.regression import Estimate, RecursiveRegression
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

MIN_SAMPLES: Final = 16  # below, the running mean is the better guess
LONGEST_LOG: Final = 14.0  # e^14: over a million tokens
LEAST_SURVIVAL: Final = 1e-6
TOLD_NOTHING: Final = 0.75  # a cut answer that was that likely to go on teaches nothing

_NORMAL: Final = NormalDist()


class OnlinePredictor:
    """Regression of log length on cheap text features, calibrated to tokens. Not thread-safe.

    Deterministic: the same outcomes in the same order give the same predictions in any process.
    """

    def __init__(
        self,
        regression: RecursiveRegression | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.regression = regression or RecursiveRegression()
        self.calibration = calibration or Calibration()

    @property
    def samples(self) -> int:
        """Outcomes that it has learned from."""
        return self.regression.samples

    def predict(self, query: PredictionQuery) -> Prediction | None:
        """Mean and 90 % quantile of output tokens, within 1 and `max_tokens`; None: too early."""
        if self.samples < MIN_SAMPLES:
            return None
        log_tokens = self.regression.estimate(extract(query)).mean
        limit = math.inf if query.max_tokens is None else float(max(query.max_tokens, 1))
        mean = self.calibration.mean(log_tokens)
        upper = max(mean, self.calibration.p90(log_tokens))
        return Prediction(
            output_tokens=max(1.0, min(mean, limit)),
            p90_tokens=max(1.0, min(upper, limit)),
            source="model",
        )

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        """`predict` for each query, in order."""
        return [self.predict(query) for query in queries]

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        """Learn from a finished request; `censored`: the answer was cut at `output_tokens`."""
        features = extract(query)
        before = self.regression.estimate(features)
        target: float | None = min(math.log(max(output_tokens, 1)), LONGEST_LOG)
        if censored:
            target = expected_beyond(before, target)
            if target is None:
                return
        self.regression.learn(features, target)
        self.calibration.learn(before.mean, target)


def expected_beyond(before: Estimate, log_cut: float) -> float | None:
    """The log length to learn from an answer that was cut: its expectation given that it went on.

    None when the cut tells nothing: so early that nearly any answer would have gone on.
    """
    z = (log_cut - before.mean) / before.deviation
    going_on = 1.0 - _NORMAL.cdf(z)
    if going_on > TOLD_NOTHING:
        return None
    if going_on < LEAST_SURVIVAL:
        return log_cut
    return min(before.mean + before.deviation * _NORMAL.pdf(z) / going_on, LONGEST_LOG)
