"""HRRN: highest response ratio next, the classic compromise between size and waiting."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published, positive_size, waited_s
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Hrrn(Published):
    """Key = -(wait / predicted cost); the response ratio is 1 + that (Brinch Hansen, 1971).

    The unit of cost cancels, so it works before rates are known. The order changes by itself as
    time passes: keys are remade every 100 ms, about ten engine steps.
    """

    name: str = field(init=False, default="HRRN")
    keys_last_s: float = field(init=False, default=0.1)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        return (-waited_s(request, view) / positive_size(request, view),)
