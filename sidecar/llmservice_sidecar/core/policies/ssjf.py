"""SSJF, the default: shortest predicted cost first, with a tail near arrival order's."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from math import exp, expm1, log, log1p  # looked up once: a queue's keys are made in one go
from typing import Final

from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request

_SMALLEST: Final = sys.float_info.min


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssjf:
    """Shortest predicted cost first with a bounded tail: key = arrival - boost(cost, gamma).

    gamma-Boost (Yu and Scully, arXiv 2404.08826) on predicted cost (SSJF, arXiv 2404.08509).
    `tail_weight` 0 is shortest first (key = cost), a large one is arrival order.
    """

    tail_weight: float = 1.0
    keys_last_s: float = math.inf

    def __post_init__(self) -> None:
        if not self.tail_weight >= 0:
            raise ValueError(f"tail_weight is {self.tail_weight}, must be 0 or more")

    @property
    def name(self) -> str:
        return "SSJF"

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        costs = view.costs
        if self.tail_weight == 0:
            # Sizes compare without rates, so there is no start-up in arrival order.
            return (view.size(request),)
        if costs is None:
            return (request.arrived_at,)  # start-up: no cost is known in seconds yet
        # `costs.cost_s`, written out: a deep queue makes ten thousand keys in one go.
        decode_s = costs.s_per_token * request.predicted_tokens
        prefill_s = costs.s_per_prefill_token * request.prefill_tokens
        return (request.arrived_at - boost_s(decode_s + prefill_s, view.gamma_per_s),)

    def overtaking_bound_s(self, request: Request, view: QueueView) -> float:
        """ln(c / c_min) / gamma, c_min the cost of the shortest possible request: one token.

        From b(c_min) - b(c) = ln((1 - e^(-gamma c)) / (1 - e^(-gamma c_min))) / gamma, and
        (1 - e^-x) / (1 - e^-y) <= x / y for x >= y. In start-up nobody overtakes; shortest first
        promises nothing.
        """
        if self.tail_weight == 0:
            return math.inf
        if view.costs is None:
            return 0.0
        ratio = view.costs.cost_s(request) / view.costs.s_per_token
        return math.log(max(ratio, 1.0)) / view.gamma_per_s


def boost_s(cost_s: float, gamma_per_s: float) -> float:
    """By how many seconds a request of this cost may step ahead: -ln(1 - e^(-gamma c)) / gamma.

    Finite and not negative for all costs >= 0 and all gamma in [1e-290, inf].
    """
    scaled = gamma_per_s * cost_s
    if scaled > 1.0:
        return -log1p(-exp(-scaled)) / gamma_per_s
    if not scaled > _SMALLEST:  # so that inf x 0 = NaN counts as the smallest, too
        scaled = _SMALLEST
    return -log(-expm1(-scaled)) / gamma_per_s
