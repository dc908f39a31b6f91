"""LAMPS: who occupies the least KV memory over time goes first."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Lamps(Published):
    """Key = slots x (s o + o (o + 1) / 2), the KV area in token-steps (LAMPS, arXiv 2410.18248).

    s are the prompt tokens, o the predicted output tokens of one answer. Their requests pause for
    calls of tools, with KV memory preserved, discarded or swapped meanwhile; here a pause is the
    end of a request, so the area is that of one uninterrupted answer. Swapping needs the engine,
    and their starvation counter is left out.
    """

    name: str = field(init=False, default="LAMPS")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        output = request.predicted_tokens / request.slots
        held = request.prompt_tokens + request.generated_tokens
        return (request.slots * (held * output + output * (output + 1) / 2),)
