"""How much SSJF gains, or in Shadow would gain: the last requests replayed in both orders.

Runs beside the requests in small steps: it must never keep the event loop from them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from llmservice_sidecar.core.gain import PastRequest, Replay
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request
from llmservice_sidecar.runtime.async_gate import AsyncGate
from llmservice_sidecar.runtime.ordering import ARRIVAL_ORDER, Ordering

WINDOW_REQUESTS: Final = 512
MIN_REQUESTS: Final = 64
PERIOD_S: Final = 30.0
MIN_WAIT_S: Final = 1e-3  # below it nobody waits, and a ratio would be noise
_EVENTS_PER_STEP: Final = 8
_GAINING: Final = "SSJF"


class EstimatedGain:
    """`ratio`: mean wait under SSJF over mean wait under FCFS; None while there is no wait."""

    def __init__(self, gate: AsyncGate, ordering: Ordering) -> None:
        self._gate = gate
        self._ordering = ordering
        self._past: deque[PastRequest] = deque(maxlen=WINDOW_REQUESTS)
        self._fresh = 0
        self.ratio: float | None = None

    def served(
        self, request: Request, prediction: Prediction, *, service_s: float, output_tokens: int
    ) -> None:
        """A request was completed after `service_s` seconds with the engine."""
        predicted = replace(request, prediction=prediction)
        self._past.append(PastRequest(predicted, service_s, output_tokens))
        self._fresh += 1

    async def follow(self) -> None:
        """Estimate anew now and then, for as long as this task lives."""
        while True:
            await asyncio.sleep(PERIOD_S)
            if self._fresh and len(self._past) >= MIN_REQUESTS:
                await self.estimate()

    async def estimate(self) -> None:
        """Replay what is known in both orders and set `ratio`."""
        self._fresh = 0
        past = tuple(self._past)
        tail_weight = self._ordering.tail_weight
        waited_s = await self._mean_wait_s(past, make_policy(ARRIVAL_ORDER))
        if waited_s < MIN_WAIT_S:
            self.ratio = None
            return
        gaining = make_policy(_GAINING, tail_weight=tail_weight)
        self.ratio = await self._mean_wait_s(past, gaining) / waited_s

    async def _mean_wait_s(self, past: Sequence[PastRequest], policy: OrderingPolicy) -> float:
        replay = Replay(past, policy=policy, limit_slots=self._gate.state.limit_slots)
        steps = 0
        while replay.advance():
            steps += 1
            if steps % _EVENTS_PER_STEP == 0:
                await asyncio.sleep(0)
        return replay.mean_wait_s
