"""PromptCost: shortest prompt first, the baseline that needs no model."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCost(Published):
    """Key = prompt tokens to be computed. If this wins, a proxy model is not justified."""

    name: str = field(init=False, default="PromptCost")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (float(request.prefill_tokens),)
