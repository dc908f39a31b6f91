"""QLLM: two classes, the latency-sensitive one always first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.window import SortedWindow

WINDOW_OFFERS: Final = 513


def _no_offers() -> SortedWindow:
    return SortedWindow(size=WINDOW_OFFERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qllm(Published):
    """Key = (best effort, arrival) (QLLM, arXiv 2503.09304).

    A request with a priority tells its class: above 0 is latency-sensitive. Of the others those are
    whose predicted length is at most the median of the last 513 offers. Their preemption of running
    best-effort requests, expert by expert, needs the engine.
    """

    name: str = field(init=False, default="QLLM")
    _recent: SortedWindow = field(init=False, repr=False, compare=False, default_factory=_no_offers)

    def offered(self, request: Request) -> None:
        """Count the request's size into the median."""
        self._recent.add(request.predicted_tokens)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (float(self._best_effort(request)), request.arrived_at)

    def _best_effort(self, request: Request) -> bool:
        if request.priority:
            return request.priority < 0
        sizes = self._recent.ascending
        return bool(sizes) and request.predicted_tokens > sizes[len(sizes) // 2]
