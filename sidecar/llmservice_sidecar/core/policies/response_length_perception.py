"""ResponseLengthPerception: the served model states its length; alike lengths run together."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.parameters import whole
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseLengthPerception(Published):
    """Key = perceived length in cells of 50 tokens (Zheng et al., arXiv 2305.13144).

    Requests of one cell run next to each other, in arrival order; short cells go first. Their gain
    comes from static batches that end together, which continuous batching has anyway. The lab does
    not charge the extra pass that asks the model.
    """

    name: str = field(init=False, default="ResponseLengthPerception")
    cell_tokens: int = whole(50, at_least=1)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (request.predicted_tokens / request.slots // self.cell_tokens,)
