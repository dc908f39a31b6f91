"""Gittins: the index of a length that is known as a distribution only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from llmservice_sidecar.core.policies.published import Published, positive_size
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import MAX_PREDICTED_TOKENS, Request

# Quantiles of the standard normal at (i + 1/2) / 16.
_NORMAL: Final = (
    *(-1.86273, -1.31801, -1.00999, -0.77642, -0.57913, -0.40225, -0.2372, -0.07841),
    *(0.07841, 0.2372, 0.40225, 0.57913, 0.77642, 1.00999, 1.31801, 1.86273),
)
_P90: Final = 1.28155


@dataclass(frozen=True, slots=True, kw_only=True)
class Gittins(Published):
    """Key = rank at age 0: min_j [ sum_i p_i min(x_i, x_j) / sum_{i<=j} p_i ] (Gittins, 1979).

    The lengths x are 16 quantiles of the lognormal with the predicted mean and 90 % quantile,
    clipped to `max_tokens`; prefill adds the same to each. Optimal where preemption is free: the
    gate never preempts, so an answer is ranked once, at age 0, and a wide distribution gets more
    credit than it can use. Without a spread it is shortest predicted first.
    """

    name: str = field(init=False, default="Gittins")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        mean = request.predicted_tokens / request.slots
        bound = MAX_PREDICTED_TOKENS if request.max_tokens is None else float(request.max_tokens)
        # What of the cost is not decode: prefill, in seconds or in tokens as the view has it.
        size = view.size(request)
        relative = _relative_rank(spread_of(mean, request.prediction.p90_tokens), bound / mean)
        decode = size * _decode_share(request, view)
        return (size - decode + decode * relative,)


def _decode_share(request: Request, view: QueueView) -> float:
    decode = (view.costs.s_per_token if view.costs else 1.0) * request.predicted_tokens
    return min(decode / positive_size(request, view), 1.0)


def spread_of(mean: float, p90: float) -> float:
    """Sigma of the lognormal with this mean and 90 % quantile; 0 where they say there is none.

    From p90 / mean = e^(z sigma - sigma^2 / 2); beyond the largest ratio of any lognormal
    (e^(z^2 / 2) = 2.27) that of the largest.
    """
    if not p90 > mean:
        return 0.0
    inside = _P90**2 - 2 * math.log(min(p90, MAX_PREDICTED_TOKENS) / mean) if mean > 0 else 0.0
    return _P90 - math.sqrt(max(inside, 0.0))


def gittins_rank(values: Sequence[float], weights: Sequence[float]) -> float:
    """Rank at age 0 of a size that is `values[i]` (ascending) with `weights[i]`; small is urgent.

    At an age a: give the values above a, less a, with their weights.
    """
    total = math.fsum(weights)
    spent = done = 0.0
    best = math.inf
    for value, weight in zip(values, weights, strict=True):
        done += weight
        spent += weight * value
        best = min(best, (spent + (total - done) * value) / done)
    return best


@lru_cache(maxsize=4096)
def _relative_rank(sigma: float, bound: float) -> float:
    """Rank of a lognormal of mean 1, clipped to `bound`."""
    values = [min(math.exp(sigma * z - sigma * sigma / 2), bound) for z in _NORMAL]
    return gittins_rank(values, [1 / len(values)] * len(values))
