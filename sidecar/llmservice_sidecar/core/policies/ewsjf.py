"""EWSJF: groups of alike prompts, scored by urgency and fairness."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from llmservice_sidecar.core.costs import PRIOR_COSTS
from llmservice_sidecar.core.policies.parameters import number
from llmservice_sidecar.core.policies.prompt_groups import group_bounds
from llmservice_sidecar.core.policies.published import MIN_SIZE, Published, waited_s
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request

WINDOW_OFFERS: Final = 1024
LEARN_EVERY: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Ewsjf(Published):
    """Key = -qf (w_base + w_urg wait / prefill cost + w_fair ln(b + 1)) (arXiv 2601.21758).

    b are the prompt's tokens, the prefill cost is that of one step with it. Groups are learned from
    the last 1,024 offers (`prompt_groups`), every 256; qf = 1 / rank of the group, the shortest
    prompts first. They tune qf and the weights by Bayesian optimisation on rewards; here these are
    parameters, 1 by default. Urgency grows with time: keys are remade every 100 ms.
    """

    name: str = field(init=False, default="EWSJF")
    keys_last_s: float = field(init=False, default=0.1)
    base_weight: float = number(1.0, at_least=0, at_most=1e9)
    urgency_weight: float = number(1.0, at_least=0, at_most=1e9)
    fairness_weight: float = number(1.0, at_least=0, at_most=1e9)
    _recent: deque[int] = field(
        init=False, repr=False, compare=False, default_factory=lambda: deque(maxlen=WINDOW_OFFERS)
    )
    _bounds: list[int] = field(init=False, repr=False, compare=False, default_factory=list[int])
    _offers: list[int] = field(init=False, repr=False, compare=False, default_factory=lambda: [0])

    def offered(self, request: Request) -> None:
        """Count the prompt in; learn the groups anew now and then."""
        self._recent.append(request.prompt_tokens)
        self._offers[0] += 1
        if self._offers[0] % LEARN_EVERY == 0:
            self._bounds[:] = group_bounds(self._recent)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        costs = view.costs or PRIOR_COSTS
        prefill_s = costs.step_s + costs.s_per_prefill_token * request.prefill_tokens
        score = (
            self.base_weight
            + self.urgency_weight * waited_s(request, view) / max(prefill_s, MIN_SIZE)
            + self.fairness_weight * math.log(request.prompt_tokens + 1)
        )
        rank = 1 + bisect_right(self._bounds, request.prompt_tokens)
        return (-score / rank,)
