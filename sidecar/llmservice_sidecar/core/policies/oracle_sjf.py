"""OracleSJF: shortest cost first with the truth; what no deployed system can have."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleSjf(Published):
    """Key = cost. The lab gives it true lengths: the best mean without preemption, a bad tail."""

    name: str = field(init=False, default="OracleSJF")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        return (view.size(request),)
