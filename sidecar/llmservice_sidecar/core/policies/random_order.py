"""Random: an order that knows nothing, the zero of every comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.draw import uniform
from llmservice_sidecar.core.policies.parameters import whole
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomOrder(Published):
    """Key = uniform in [0, 1), drawn from seed and id: the same run gives the same order."""

    name: str = field(init=False, default="Random")
    seed: int = whole(1, at_least=1)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (uniform(f"{self.seed}/{request.id}"),)
