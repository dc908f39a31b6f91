"""An engine that begins with a request some steps after the gate let it go.

Between a slot that falls free and the first step of who takes it lies what a model of steps alone
does not know: the end has to be noticed, the call to be sent, and the step that has begun meanwhile
goes on without it. At a load near one this is the difference between a short and a long queue.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import Final

from llmservice_lab.sim_engine import Engine, Progress, Starting

_SPREAD: Final = (math.sqrt(5) - 1) / 2  # multiples of it fill the unit interval evenly


class LateEngine:
    """`inner`, but a start takes `late_s` more on average: whole steps of about `step_s` each."""

    def __init__(self, inner: Engine, *, late_s: float, step_s: float) -> None:
        self._inner = inner
        self._steps = late_s / step_s if step_s > 0 else 0.0
        self._step_s = step_s
        self._coming: list[tuple[float, int, Starting]] = []  # a heap
        self._started = 0

    def start(self, request: Starting, *, now: float) -> None:
        """It joins after some steps; without any at once."""
        self._started += 1
        steps = math.floor(self._steps + self._started * _SPREAD % 1.0)
        if not steps:
            self._inner.start(request, now=now)
            return
        # In the middle of a step, so that it is the next one whatever steps really cost.
        at_s = now + (steps - 0.5) * self._step_s
        heapq.heappush(self._coming, (at_s, self._started, request))

    def next_event_s(self) -> float | None:
        """When something joins, or the inner engine has news; None when idle."""
        inner_s = self._inner.next_event_s()
        if not self._coming:
            return inner_s
        return self._coming[0][0] if inner_s is None else min(inner_s, self._coming[0][0])

    def advance(self) -> Progress:
        """Go to the next event. Call `next_event_s` before; the engine must not be idle."""
        inner_s = self._inner.next_event_s()
        if self._coming and (inner_s is None or self._coming[0][0] <= inner_s):
            now, _, request = heapq.heappop(self._coming)
            self._inner.start(request, now=now)
            return Progress(began_s=now, now=now, scheduled=[], first_tokens=[], finished=[])
        return self._inner.advance()

    def emitted(self, *, now: float) -> Iterable[tuple[int, int]]:
        """Index and output tokens so far of every request that has some."""
        return self._inner.emitted(now=now)
