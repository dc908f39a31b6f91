"""AMin: start from the lower end of an interval, and raise it as tokens come."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.admission.interval import interval_of
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class AMin(Published):
    """Key = lower bound of the output tokens (A_min, arXiv 2508.14544).

    Its admission rule is `core.admission.a_min`; without a bound on KV memory only the order acts.
    Their eviction of running requests when memory is short after all is the engine's preemption.
    """

    name: str = field(init=False, default="AMin")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (interval_of(request).lower * request.slots,)
