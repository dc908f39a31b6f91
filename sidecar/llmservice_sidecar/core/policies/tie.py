"""TIE: shortest first on a risk-adjusted length, from a heavy-tailed distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from llmservice_sidecar.core.policies.published import Published, waited_s
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import MAX_PREDICTED_TOKENS, Request

# Quantiles of Student's t with 3.5 degrees of freedom: 18 in the middles of twentieths up to 0.9,
# then 10 in the middles of hundredths.
_BODY: Final = (
    *(-2.9401, -1.8385, -1.377, -1.0771, -0.8491, -0.6602, -0.4951, -0.3447, -0.2035),
    *(-0.0673, 0.0673, 0.2035, 0.3447, 0.4951, 0.6602, 0.8491, 1.0771, 1.377),
)
_TAIL: Final = (1.6228, 1.7237, 1.8385, 1.9716, 2.1302, 2.326, 2.5804, 2.9401, 3.5362, 5.0857)
_P90: Final = 1.57658
DISCOUNT: Final = 0.9
DISCOUNT_EVERY_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie(Published):
    """Key = (E[min(X, max_tokens)] + beta CVaR_0.9) x 0.9^(waited / 30 s) (TIE, arXiv 2604.00499).

    X is log-t with nu = 3.5; beta = min(.5, max(.1, .1 x queued / slots)) weighs the tail more in
    a long queue; the discount moves in whole steps of 30 s. They fit mu and sigma on 20 samples of
    each prompt; here mu is the log of the prediction and sigma follows from its 90 % quantile.
    Keys are remade every 250 ms: beta moves with the queue.
    """

    name: str = field(init=False, default="TIE")
    keys_last_s: float = field(init=False, default=0.25)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        centre = request.predicted_tokens / request.slots
        p90 = request.prediction.p90_tokens
        sigma = math.log(min(p90, MAX_PREDICTED_TOKENS) / centre) / _P90 if p90 > centre else 0.0
        bound = MAX_PREDICTED_TOKENS if request.max_tokens is None else float(request.max_tokens)
        mean, tail = _mean_and_tail(centre, sigma, bound)
        beta = min(0.5, max(0.1, 0.1 * view.depth / max(view.limit_slots, 1)))
        steps = waited_s(request, view) // DISCOUNT_EVERY_S
        return (request.slots * (mean + beta * tail) * DISCOUNT**steps,)


@lru_cache(maxsize=8192)
def _mean_and_tail(centre: float, sigma: float, bound: float) -> tuple[float, float]:
    """E[min(X, bound)] and the mean of its upper tenth, for ln X = ln centre + sigma t."""
    body = math.fsum(min(centre * math.exp(sigma * t), bound) for t in _BODY) / len(_BODY)
    tail = math.fsum(min(centre * math.exp(sigma * t), bound) for t in _TAIL) / len(_TAIL)
    return 0.9 * body + 0.1 * tail, tail
