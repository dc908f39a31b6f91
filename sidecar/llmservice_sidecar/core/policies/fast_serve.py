"""FastServe: a multi-level feedback queue that long prompts join further down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llmservice_sidecar.core.costs import PRIOR_COSTS
from llmservice_sidecar.core.policies.parameters import whole
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class FastServe(Published):
    """Key = (level, arrival); level k runs 16 x 2^k tokens, then demotes (arXiv 2305.05920).

    Skip-join: a request joins the first level whose quantum covers its prefill, counted in decode
    tokens of equal cost; each spent quantum moves it one level down. It needs no predictor. Its
    promotion of starving requests would need the time of the last service and is left out;
    preemption per token and proactive swapping of KV memory need the engine.
    """

    name: str = field(init=False, default="FastServe")
    quantum_tokens: int = whole(16, at_least=1)
    levels: int = whole(8, at_least=1, at_most=32)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        level, _ = self._stand(request, view)
        return (float(level), request.arrived_at)

    def slice_tokens(self, request: Request, view: QueueView) -> int | None:
        """What is left of the quantum of its level."""
        return self._stand(request, view)[1]

    def _stand(self, request: Request, view: QueueView) -> tuple[int, int]:
        """The level, and the tokens left of its quantum."""
        level, spent = self._joins(request, view), request.generated_tokens
        while level < self.levels - 1 and spent >= self._quantum(level):
            spent -= self._quantum(level)
            level += 1
        quantum = self._quantum(level)
        return level, quantum - spent % quantum

    def _joins(self, request: Request, view: QueueView) -> int:
        costs = view.costs or PRIOR_COSTS
        # The first slice alone decides: later ones find their prompt in the prefix cache.
        prefill = costs.s_per_prefill_token * request.prompt_tokens / costs.s_per_token
        if prefill <= self.quantum_tokens:
            return 0
        return min(math.ceil(math.log2(prefill / self.quantum_tokens)), self.levels - 1)

    def _quantum(self, level: int) -> int:
        return self.quantum_tokens << level
