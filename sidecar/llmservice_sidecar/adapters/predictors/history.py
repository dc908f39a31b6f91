"""What to say without a model: the running mean of such requests, else a guess."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.core.request import UNPREDICTED_TOKENS, Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

MIN_SAMPLES: Final = 4
MEMORY: Final = 256  # requests: older ones fade
KEYS: Final = 1024  # (endpoint, model) pairs; the longest unused is forgotten
QUANTILE: Final = 0.9
PRIOR_SHARE: Final = 0.5  # of max_tokens: few answers use all of it
PRIOR_P90: Final = 2.0  # times the mean


@dataclass(slots=True)
class _Lengths:
    samples: int = 0
    mean: float = 0.0
    log_p90: float = 0.0

    def add(self, tokens: float) -> None:
        self.samples += 1
        self.mean += (tokens - self.mean) / min(self.samples, MEMORY)
        log_tokens = math.log(tokens)
        if self.samples == 1:
            self.log_p90 = log_tokens
        step = max(0.05, 1.0 / self.samples)
        self.log_p90 += step * (QUANTILE if log_tokens > self.log_p90 else QUANTILE - 1.0)


class History:
    """Running mean and 90 % quantile of output tokens per endpoint and model; never fails."""

    def __init__(self) -> None:
        self._lengths: OrderedDict[tuple[str, str], _Lengths] = OrderedDict()

    def predict(self, query: PredictionQuery) -> Prediction:
        """The running mean ("history"), or before there is one a guess ("prior")."""
        limit = math.inf if query.max_tokens is None else float(max(query.max_tokens, 1))
        lengths = self._lengths.get((query.endpoint, query.model))
        if lengths is None or lengths.samples < MIN_SAMPLES:
            mean = min(UNPREDICTED_TOKENS, max(1.0, PRIOR_SHARE * limit))
            return Prediction(mean, min(PRIOR_P90 * mean, limit), "prior")
        mean = max(1.0, min(lengths.mean, limit))
        return Prediction(mean, max(mean, min(math.exp(lengths.log_p90), limit)), "history")

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        """Learn from a finished request. Of a cut answer only that it was at least so long."""
        key = (query.endpoint, query.model)
        lengths = self._lengths.setdefault(key, _Lengths())
        self._lengths.move_to_end(key)
        if len(self._lengths) > KEYS:
            self._lengths.popitem(last=False)
        if not censored or output_tokens > lengths.mean:
            lengths.add(float(max(output_tokens, 1)))
