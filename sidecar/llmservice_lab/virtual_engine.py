"""A plain discrete-event engine with continuous batching, on virtual time.

Step for step what a real engine does with slots and no memory limit: a request's prompt is computed
in one step together with everybody's decode, which yields its first token; each further step yields
one token. Steps without news are skipped in one go, so a run costs per request, not per token.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from llmservice_lab.cost_model import CostModel


@dataclass(frozen=True, slots=True, order=True)
class _Answer:
    """An answer that will be complete after step number `last_step`."""

    last_step: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """A request as the engine gets it; `index` names it."""

    index: int
    prefill_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the end of a step brought, at `now`."""

    now: float
    first_tokens: list[int]
    finished: list[int]


class VirtualEngine:
    """Runs what it is given. `now` is a moment of virtual time, never a clock."""

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        self._decoding: list[_Answer] = []  # a heap: who finishes first
        self._joining: list[Starting] = []  # from the next step on
        self._prefilling: list[Starting] = []  # in the step that runs now
        self._start_s = 0.0  # when the stretch of equal steps began
        self._done_steps = 0  # steps done before it
        self._step_s = 0.0
        self._stretch_steps = 0  # 0: nothing planned

    def start(self, request: Starting, *, now: float) -> None:
        """A request joins at the next step; at once when the engine is idle."""
        if not self._stretch_steps:
            self._start_s = max(self._start_s, now)
        elif not self._prefilling:
            # The stretch ends early: at the end of the step that runs now.
            steps = max(1, math.ceil((now - self._start_s) / self._step_s))
            self._stretch_steps = min(self._stretch_steps, steps)
        self._joining.append(request)

    def next_event_s(self) -> float | None:
        """When the next step with news ends; None when idle."""
        if not self._stretch_steps:
            self._plan()
        if not self._stretch_steps:
            return None
        return self._start_s + self._stretch_steps * self._step_s

    def advance(self) -> Progress:
        """Go to the next event. Call `next_event_s` before; the engine must not be idle."""
        self._start_s += self._stretch_steps * self._step_s
        self._done_steps += self._stretch_steps
        self._stretch_steps = 0
        first_tokens = [request.index for request in self._prefilling]
        for request in self._prefilling:
            last_step = self._done_steps + request.output_tokens - 1
            heapq.heappush(self._decoding, _Answer(last_step, request.index))
        self._prefilling = []
        finished: list[int] = []
        while self._decoding and self._decoding[0].last_step <= self._done_steps:
            finished.append(heapq.heappop(self._decoding).index)
        return Progress(now=self._start_s, first_tokens=first_tokens, finished=finished)

    def _plan(self) -> None:
        self._prefilling, self._joining = self._joining, []
        prefill_tokens = sum(request.prefill_tokens for request in self._prefilling)
        self._step_s = (
            self._costs.step_s
            + self._costs.per_decode_s * len(self._decoding)
            + self._costs.per_prefill_token_s * prefill_tokens
        )
        if self._prefilling:
            self._stretch_steps = 1
        elif self._decoding:
            self._stretch_steps = self._decoding[0].last_step - self._done_steps
