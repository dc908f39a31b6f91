"""Gimbal: shortest prompt first, and prompts shrink while they wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.parameters import number
from llmservice_sidecar.core.policies.published import Published, waited_s
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Gimbal(Published):
    """Key = prefill tokens x max(0, 1 - waited / aging) (Gimbal, arXiv 2602.21626).

    Their order inside a replica is SJF by prefill with aging per request, without a predictor of
    lengths; that aging is linear and complete after 10 s is our reading. Older requests come first,
    in arrival order. The choice of a replica by KV use and prefix load belongs to the endpoint
    picker in front of the sidecars, the placement of experts to the engine. Keys are remade every
    100 ms.
    """

    name: str = field(init=False, default="Gimbal")
    keys_last_s: float = field(init=False, default=0.1)
    aging_s: float = number(10.0, at_least=1e-6)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        young = max(1 - waited_s(request, view) / self.aging_s, 0.0)
        return (request.prefill_tokens * young, request.arrived_at)
