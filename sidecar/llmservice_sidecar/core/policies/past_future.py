"""PastFuture: arrival order; the system is its admission rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class PastFuture(Published):
    """Key = arrival (Past-Future of LightLLM, arXiv 2507.10150); see `core.admission.past_future`.

    Without a bound on KV memory the rule never refuses, and this is FCFS.
    """

    name: str = field(init=False, default="PastFuture")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (request.arrived_at,)
