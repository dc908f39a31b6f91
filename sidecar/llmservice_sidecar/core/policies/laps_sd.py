"""LAPSSD: least attained service until a request is understood, then shortest perceived."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.parameters import whole
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class LapsSd(Published):
    """Key = (level of attained service, arrival), later of (remaining) (arXiv 2505.17074).

    Levels double: below 32 tokens, below 64, ... Their requests decode speculatively and count as
    stable once the rate of accepted tokens is; without that rate 64 tokens stand for it. From then
    on the predicted rest decides the level, and the order within it, behind the unstable ones.
    """

    name: str = field(init=False, default="LAPSSD")
    slice_size_tokens: int = whole(32, at_least=1)
    stable_after_tokens: int = whole(64, at_least=0)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        attained = request.generated_tokens
        if attained < self.stable_after_tokens:
            return (self._level(attained), 0.0, request.arrived_at)
        remaining = request.predicted_tokens
        return (self._level(remaining), 1.0, remaining)

    def slice_tokens(self, request: Request, view: QueueView) -> int | None:  # noqa: ARG002 - protocol
        return self.slice_size_tokens

    def _level(self, tokens: float) -> float:
        if tokens < self.slice_size_tokens:
            return 0.0
        return 1.0 + math.floor(math.log2(tokens / self.slice_size_tokens))
