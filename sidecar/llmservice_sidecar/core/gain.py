"""What an order is worth: past requests served once more, on a gate of their own, on paper.

The same gate and policies as in production decide; only the service times are taken as given. The
replay advances one event at a time, so that its driver may do other things between two.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmservice_sidecar.core.decision import Admitted
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Request, RequestId


@dataclass(frozen=True, slots=True)
class PastRequest:
    """A completed request with the prediction made for it, and how long the engine worked on it."""

    request: Request
    service_s: float
    output_tokens: int


class Replay:
    """Serves `past` under `policy` with `limit_slots`; `mean_wait_s` is what it comes to."""

    def __init__(
        self, past: Sequence[PastRequest], *, policy: OrderingPolicy, limit_slots: int
    ) -> None:
        # Numbered anew: a client may have used one id twice, one after the other.
        numbered = [
            replace(item, request=replace(item.request, id=RequestId(str(number))))
            for number, item in enumerate(sorted(past, key=lambda item: item.request.arrived_at))
        ]
        self._by_id = {item.request.id: item for item in numbered}
        self._arrivals = deque(numbered)
        self._ends: list[tuple[float, RequestId]] = []
        self._waits_s: list[float] = []
        self._gate = Gate(
            policy=policy,
            limit_slots=limit_slots,
            max_queued=len(numbered),
            estimator=WorkEstimator(),
        )

    @property
    def mean_wait_s(self) -> float:
        """Mean seconds from arrival to admission; 0 before the first."""
        return sum(self._waits_s) / len(self._waits_s) if self._waits_s else 0.0

    def advance(self) -> bool:
        """Let the next arrival or end happen; False when none is left."""
        if not self._arrivals and not self._ends:
            return False
        if self._arrivals and (not self._ends or self._next_arrival_s() <= self._ends[0][0]):
            self._arrive(self._arrivals.popleft())
        else:
            self._end(*heapq.heappop(self._ends))
        return True

    def _next_arrival_s(self) -> float:
        return self._arrivals[0].request.arrived_at

    def _arrive(self, item: PastRequest) -> None:
        now = item.request.arrived_at
        if isinstance(self._gate.offer(item.request, now=now), Admitted):
            self._start(item.request.id, now)

    def _end(self, now: float, request_id: RequestId) -> None:
        tokens = self._by_id[request_id].output_tokens
        for admitted in self._gate.leave(request_id, now=now, output_tokens=tokens):
            self._start(admitted, now)

    def _start(self, request_id: RequestId, now: float) -> None:
        item = self._by_id[request_id]
        self._waits_s.append(now - item.request.arrived_at)
        self._gate.update(request_id, generated=1, now=now)
        heapq.heappush(self._ends, (now + item.service_s, request_id))
