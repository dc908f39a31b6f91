"""OracleSRPT: shortest remaining time first with the truth, preemptive by slices."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.parameters import whole
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleSrpt(Published):
    """Key = true remaining cost, decided anew after every slice (Schrage, 1968).

    SRPT proper preempts at any step and for free; that needs the engine. Here an arrival waits at
    most one slice, and a resumed answer pays for what the engine's prefix cache has lost: that is
    "free" with all cached and "with recompute" with nothing cached, as the driver charges it.
    """

    name: str = field(init=False, default="OracleSRPT")
    slice_size_tokens: int = whole(16, at_least=1)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        return (view.size(request),)

    def slice_tokens(self, request: Request, view: QueueView) -> int | None:  # noqa: ARG002 - protocol
        return self.slice_size_tokens
