"""What a model may say of a length: a finite number within what the request can be."""

from __future__ import annotations

import math

from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery


def sane(said: Prediction, query: PredictionQuery) -> Prediction:
    """The prediction within 1 and `max_tokens`, its quantiles in order: p50 and mean below p90.

    Raises ValueError when the mean is not a finite positive number. A quantile that is no number is
    left out (p50) or stands at the mean (p90).
    """
    if not math.isfinite(said.output_tokens) or said.output_tokens <= 0:
        raise ValueError(f"predicted {said.output_tokens} tokens; must be finite and positive")
    limit = math.inf if query.max_tokens is None else float(max(query.max_tokens, 1))
    mean = max(1.0, min(said.output_tokens, limit))
    upper = said.p90_tokens if math.isfinite(said.p90_tokens) else mean
    p90 = max(mean, min(upper, limit))
    middle = said.p50_tokens
    if middle is not None:
        middle = max(1.0, min(middle, p90)) if math.isfinite(middle) else None
    return Prediction(mean, p90, said.source, middle)
