"""ALISE: shortest estimated execution time first, estimated from prompts like this one."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Alise(Published):
    """Key = predicted prefill + decode time (ALISE, arXiv 2410.23537).

    Its idea is the retrieval predictor, which the lab provides; deployed, the key takes the lengths
    of whatever predictor is loaded. Preemption between iterations, swapping of KV memory and aging
    across its priority queues need the engine.
    """

    name: str = field(init=False, default="ALISE")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        return (view.size(request),)
