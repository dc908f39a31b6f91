"""ELIS: iterative shortest remaining time first, in slices of 50 tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.parameters import whole
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Elis(Published):
    """Key = predicted remaining tokens; slices of 50 (ISRTF of ELIS, arXiv 2505.09142).

    After each slice the remaining length is predicted anew from prompt and answer so far; the lab
    conditions on the tokens that came out. A resumed answer pays for what the prefix cache lost.
    """

    name: str = field(init=False, default="ELIS")
    slice_size_tokens: int = whole(50, at_least=1)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (request.predicted_tokens,)

    def slice_tokens(self, request: Request, view: QueueView) -> int | None:  # noqa: ARG002 - protocol
        return self.slice_size_tokens
