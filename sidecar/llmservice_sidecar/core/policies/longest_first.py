"""LongestFirst: the worst sensible order; what is measured must say so."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class LongestFirst(Published):
    """Key = -predicted cost: a check of the harness, not a candidate."""

    name: str = field(init=False, default="LongestFirst")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        return (-view.size(request),)
