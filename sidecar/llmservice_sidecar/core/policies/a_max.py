"""AMax: trust the upper end of an interval, for order and memory alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.admission.interval import interval_of
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class AMax(Published):
    """Key = upper bound of the output tokens (A_max, arXiv 2508.14544).

    Its admission rule is `core.admission.a_max`; without a bound on KV memory only the order acts.
    """

    name: str = field(init=False, default="AMax")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (interval_of(request).upper * request.slots,)
