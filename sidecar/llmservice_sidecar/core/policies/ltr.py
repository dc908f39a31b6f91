"""LTR: order by a learned rank, and promote what was passed over for long."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.parameters import whole
from llmservice_sidecar.core.policies.published import Published, waited_s
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Ltr(Published):
    """Key = (promoted first, predicted output tokens) (Learning to Rank, arXiv 2408.15792, alg. 1).

    A request is promoted after 200 engine iterations without service, counted as waiting time over
    the observed time of a step; among the promoted the score still decides. Their promotion lasts
    for a quantum of 10 iterations and running requests are preempted between iterations: both need
    the engine; here who was promoted runs to its end. Keys are remade every 100 ms.
    """

    name: str = field(init=False, default="LTR")
    keys_last_s: float = field(init=False, default=0.1)
    starvation_iterations: int = whole(200, at_least=1)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        return (0.0 if self._starves(request, view) else 1.0, request.predicted_tokens)

    def _starves(self, request: Request, view: QueueView) -> bool:
        if view.costs is None:
            return False  # how long an iteration takes is not known yet
        return waited_s(request, view) >= self.starvation_iterations * view.costs.step_s
