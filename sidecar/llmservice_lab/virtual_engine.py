"""A plain discrete-event engine with continuous batching, on virtual time.

Step for step what vLLM's scheduler does with slots, chunked prefill and a KV cache that never
fills: a step gives each running request its next token, and what is left of the step's tokens to
prompts, in order of priority and arrival; a prompt's last chunk yields the first token. Steps
without news are skipped in one go, so a run costs per request, not per token.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from llmservice_lab.cost_model import CostModel
from llmservice_lab.sim_engine import EngineOptions, Progress, Starting

_DEFAULTS: Final = EngineOptions()


@dataclass(frozen=True, slots=True, order=True)
class _Answer:
    """An answer that will be complete after step number `last_step`."""

    last_step: int
    index: int
    output_tokens: int


@dataclass(slots=True)
class _Prefill:
    """A request whose prompt is being computed; `left` tokens of it after the current step."""

    request: Starting
    left: int


class VirtualEngine:
    """Runs up to `slots` requests at once; the others wait in order of priority and arrival.

    `options.kv_tokens` is `VirtualKvEngine`'s business. Raises ValueError for a scheduler class,
    which only vLLM itself has.
    """

    def __init__(self, costs: CostModel, *, slots: int, options: EngineOptions = _DEFAULTS) -> None:
        if options.scheduler_class is not None:
            raise ValueError(
                f"scheduler_class={options.scheduler_class}: the discrete-event engine has none; "
                "use the vllm engine"
            )
        self._costs = costs
        self._slots = slots
        self._options = options
        self._decoding: list[_Answer] = []  # a heap: who finishes first
        self._prefilling: deque[_Prefill] = deque()  # in the step that runs now
        self._waiting: list[tuple[int, int, Starting]] = []  # a heap
        self._sent = 0
        self._scheduled: list[int] = []  # since the current stretch began
        self._start_s = 0.0  # when the stretch of equal steps began
        self._done_steps = 0  # steps done before it
        self._step_s = 0.0
        self._stretch_steps = 0  # 0: nothing planned

    def start(self, request: Starting, *, now: float) -> None:
        """A request joins at the next step; at once when the engine is idle."""
        if not self._stretch_steps:
            self._start_s = max(self._start_s, now)
        elif not self._prefilling and self._running() < self._slots:
            # The stretch ends early: at the end of the step that runs now.
            steps = max(1, math.ceil((now - self._start_s) / self._step_s))
            self._stretch_steps = min(self._stretch_steps, steps)
        self._sent += 1
        heapq.heappush(self._waiting, (-request.priority, self._sent, request))

    def next_event_s(self) -> float | None:
        """When the next step with news ends; None when idle."""
        if not self._stretch_steps:
            self._plan()
        if not self._stretch_steps:
            return None
        return self._start_s + self._stretch_steps * self._step_s

    def advance(self) -> Progress:
        """Go to the next event. Call `next_event_s` before; the engine must not be idle."""
        began_s = self._start_s
        self._start_s += self._stretch_steps * self._step_s
        self._done_steps += self._stretch_steps
        self._stretch_steps = 0
        first_tokens: list[int] = []
        while self._prefilling and not self._prefilling[0].left:
            request = self._prefilling.popleft().request
            first_tokens.append(request.index)
            last_step = self._done_steps + request.output_tokens - 1
            heapq.heappush(self._decoding, _Answer(last_step, request.index, request.output_tokens))
        finished: list[int] = []
        while self._decoding and self._decoding[0].last_step <= self._done_steps:
            finished.append(heapq.heappop(self._decoding).index)
        return Progress(
            began_s=began_s,
            now=self._start_s,
            scheduled=self._scheduled,
            first_tokens=first_tokens,
            finished=finished,
        )

    def emitted(self, *, now: float) -> Iterable[tuple[int, int]]:
        """Index and output tokens so far of every request that has some."""
        steps = self._done_steps
        if self._stretch_steps:
            steps += min(int((now - self._start_s) / self._step_s), self._stretch_steps - 1)
        for answer in self._decoding:
            yield answer.index, answer.output_tokens - (answer.last_step - steps)

    def _running(self) -> int:
        return len(self._decoding) + len(self._prefilling)

    def _plan(self) -> None:
        """The next step, and how often it repeats before there is news."""
        self._scheduled = []
        decodes, budget = len(self._decoding), self._options.max_batched_tokens
        left = budget - decodes
        for prefill in self._prefilling:
            left -= _compute(prefill, left)
        while self._waiting and self._running() < self._slots and left > 0:
            request = heapq.heappop(self._waiting)[2]
            tokens = request.prefill_tokens(prefix_caching=self._options.prefix_caching)
            prefill = _Prefill(request, tokens)
            self._prefilling.append(prefill)
            self._scheduled.append(request.index)
            left -= _compute(prefill, left)
        self._step_s = (
            self._costs.step_s
            + self._costs.per_decode_s * decodes
            + self._costs.per_prefill_token_s * (budget - decodes - left)
        )
        if self._prefilling:
            self._stretch_steps = 1
        elif self._decoding:
            self._stretch_steps = self._decoding[0].last_step - self._done_steps


def _compute(prefill: _Prefill, most: int) -> int:
    """Compute up to `most` tokens of the prompt: how many it were."""
    tokens = min(prefill.left, most)
    prefill.left -= tokens
    return tokens
