"""A predicted length as an interval, for the rules and orders that want one."""

from __future__ import annotations

from typing import NamedTuple

from llmservice_sidecar.core.request import MAX_PREDICTED_TOKENS, Request


class Interval(NamedTuple):
    """Bounds of the output tokens of one answer; 1 <= lower <= upper."""

    lower: float
    upper: float


def interval_of(request: Request) -> Interval:
    """[mean^2 / p90, p90], symmetric in ratios; both the mean where there is no spread."""
    mean = request.predicted_tokens / request.slots
    bound = MAX_PREDICTED_TOKENS if request.max_tokens is None else float(request.max_tokens)
    p90 = request.prediction.p90_tokens
    # Not `max(mean, p90)`: NaN must count as no spread.
    upper = max(min(p90, bound, MAX_PREDICTED_TOKENS), mean) if p90 > mean else mean
    return Interval(max(mean * (mean / upper), 1.0), upper)
