"""The discrete-event engine with a KV cache that fills: allocation and preemption as vLLM does it.

Each token to compute needs its place in a block of 16. When no block is free for a running request,
the latest of the lowest priority gives up all of its own, waits, and computes prompt and answer
again but for what is still found in the cache. A prompt begins only where it fits as a whole.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from llmservice_lab.cost_model import CostModel
from llmservice_lab.kv_blocks import KvBlocks, blocks_for
from llmservice_lab.sim_engine import BLOCK_TOKENS, EngineOptions, Progress, Starting


@dataclass(slots=True, eq=False)
class _Job:
    """A request in the engine, without the prompt tokens that all share.

    `computed` of its tokens are in `blocks`; `granted` are computed in the step that runs.
    """

    order: tuple[int, int]  # the smallest is served first, the largest preempted first
    request: Starting
    prompt: int
    emitted: int = 0
    computed: int = 0
    granted: int = 0
    blocks: int = 0
    begun: bool = False

    @property
    def missing(self) -> int:
        return self.prompt + self.emitted - self.computed

    @property
    def decodes(self) -> bool:
        return self.granted == 1 and self.computed + 1 > self.prompt

    def __lt__(self, other: _Job) -> bool:
        return self.order < other.order


class VirtualKvEngine:
    """Runs up to `slots` requests at once while their tokens fit into `options.kv_tokens`.

    Prompt tokens that all requests share (`cached_tokens`) take no blocks of theirs. Raises
    ValueError for a scheduler class, which only vLLM itself has, and from `start` for a request
    that never fits.
    """

    def __init__(self, costs: CostModel, *, slots: int, options: EngineOptions) -> None:
        assert options.kv_tokens is not None
        if options.scheduler_class is not None:
            raise ValueError(
                f"scheduler_class={options.scheduler_class}: the discrete-event engine has none; "
                "use the vllm engine"
            )
        self._costs = costs
        self._slots = slots
        self._options = options
        self._capacity = blocks_for(options.kv_tokens)
        self._blocks = KvBlocks(self._capacity, caching=options.prefix_caching)
        self._running: list[_Job] = []
        self._waiting: list[_Job] = []  # a heap
        self._sent = 0
        self._scheduled: list[int] = []
        self._preempted: list[int] = []
        self._start_s = 0.0
        self._step_s = 0.0
        self._stretch_steps = 0  # 0: nothing planned

    def start(self, request: Starting, *, now: float) -> None:
        """A request joins at the next step; at once when the engine is idle."""
        self._sent += 1
        prompt = request.prompt_tokens + request.generated_tokens - self._shared(request)
        if blocks_for(prompt + request.output_tokens) > self._capacity:
            raise ValueError(
                f"kv_tokens is {self._options.kv_tokens}; allowed: at least "
                f"{prompt + request.output_tokens}, what request {request.index} comes to"
            )
        if not self._stretch_steps:
            self._start_s = max(self._start_s, now)
        elif self._stretch_steps > 1 and len(self._running) < self._slots:
            # The stretch ends early: at the end of the step that runs now.
            steps = max(1, math.ceil((now - self._start_s) / self._step_s))
            self._stretch_steps = min(self._stretch_steps, steps)
        heapq.heappush(
            self._waiting, _Job((-request.priority, self._sent), request, max(prompt, 1))
        )

    def next_event_s(self) -> float | None:
        """When the next step with news ends; None when idle."""
        if not self._stretch_steps and (self._running or self._waiting):
            self._plan()
        if not self._stretch_steps:
            return None
        return self._start_s + self._stretch_steps * self._step_s

    def advance(self) -> Progress:
        """Go to the next event. Call `next_event_s` before; the engine must not be idle."""
        began_s, steps = self._start_s, self._stretch_steps
        self._start_s += steps * self._step_s
        self._stretch_steps = 0
        first_tokens: list[int] = []
        finished: list[int] = []
        for job in self._running:
            self._compute(job, steps)
        for job in self._running:
            if job.granted and not job.missing:
                job.emitted += 1
                if job.emitted == 1:
                    first_tokens.append(job.request.index)
                if job.emitted == job.request.output_tokens:
                    finished.append(job.request.index)
                    self._give_back(job, job.computed)
        self._running = [j for j in self._running if j.emitted < j.request.output_tokens]
        return Progress(
            began_s=began_s,
            now=self._start_s,
            scheduled=self._scheduled,
            first_tokens=first_tokens,
            finished=finished,
            preempted=self._preempted,
        )

    def emitted(self, *, now: float) -> Iterable[tuple[int, int]]:
        """Index and output tokens so far of every request that has some."""
        steps = 0
        if self._stretch_steps > 1:
            steps = min(int((now - self._start_s) / self._step_s), self._stretch_steps - 1)
        for job in (*self._running, *self._waiting):
            if job.emitted:
                yield job.request.index, job.emitted + (steps if job.granted else 0)

    def _shared(self, request: Starting) -> int:
        """Prompt tokens in blocks that all requests share: they are there and cost nothing."""
        if not self._options.prefix_caching:
            return 0
        cached = min(request.cached_tokens, request.prompt_tokens - 1)
        return max(cached // BLOCK_TOKENS * BLOCK_TOKENS, 0)

    def _compute(self, job: _Job, steps: int) -> None:
        """The work granted to a request, and that of further steps of one token each."""
        job.computed += job.granted
        if steps > 1:
            job.computed += steps - 1
            job.emitted += steps - 1
            more = blocks_for(job.computed) - job.blocks
            self._blocks.take(more)
            job.blocks += more

    def _plan(self) -> None:
        """The next step, and how often it repeats before there is news."""
        self._scheduled, self._preempted = [], []
        granted = self._schedule()
        while not granted:  # who asked first has preempted itself: no time passes
            granted = self._schedule()
        decodes = sum(job.decodes for job in granted)
        tokens = sum(job.granted for job in granted) - decodes
        self._step_s = (
            self._costs.step_s
            + self._costs.per_decode_s * decodes
            + self._costs.per_prefill_token_s * tokens
        )
        self._stretch_steps = 1
        if not tokens and not self._preempted and decodes == len(self._running):
            self._stretch_steps = self._steps_alike()

    def _schedule(self) -> list[_Job]:
        """Those who compute something in the next step. Nobody begins when somebody had to go."""
        before = len(self._preempted)
        budget = self._continue(self._options.max_batched_tokens)
        if len(self._preempted) == before:
            self._begin(budget)
        return [job for job in self._running if job.granted]

    def _continue(self, budget: int) -> int:
        """Tokens and blocks for those who run, in order; what is left of the step's tokens."""
        for job in self._running:
            job.granted = 0
        at = 0
        while at < len(self._running) and budget > 0:
            job = self._running[at]
            tokens = min(job.missing, budget)
            more = blocks_for(job.computed + tokens) - job.blocks
            while more > self._blocks.free:
                victim = max(self._running)
                budget += victim.granted
                at -= self._running.index(victim) < at
                self._preempt(victim)
                if victim is job:
                    return budget
            self._grant(job, tokens)
            budget -= tokens
            at += 1
        return budget

    def _begin(self, budget: int) -> None:
        """Prompts for what is left of the step, as long as they fit as a whole."""
        while self._waiting and budget > 0 and len(self._running) < self._slots:
            job = self._waiting[0]
            if blocks_for(job.prompt + job.emitted) > self._blocks.free:
                return
            heapq.heappop(self._waiting)
            self._running.append(job)
            if not job.begun:
                job.begun = True
                self._scheduled.append(job.request.index)
            self._find(job)
            tokens = min(job.missing, budget)
            self._grant(job, tokens)
            budget -= tokens

    def _find(self, job: _Job) -> None:
        """Start behind what is found in the cache; at least one token is computed."""
        most = (job.prompt + job.emitted - 1) // BLOCK_TOKENS
        found = min(self._blocks.found(job.request.index), most)
        self._blocks.reuse(job.request.index, found)
        job.blocks, job.computed = found, found * BLOCK_TOKENS

    def _grant(self, job: _Job, tokens: int) -> None:
        more = blocks_for(job.computed + tokens) - job.blocks
        self._blocks.take(more)
        job.blocks += more
        job.granted = tokens

    def _preempt(self, job: _Job) -> None:
        self._running.remove(job)
        self._preempted.append(job.request.index)
        # vLLM counts blocks as filled when it grants them.
        self._give_back(job, job.computed + job.granted)
        job.granted = job.computed = job.blocks = 0
        heapq.heappush(self._waiting, job)

    def _give_back(self, job: _Job, computed: int) -> None:
        self._blocks.give_back(job.request.index, held=job.blocks, computed_tokens=computed)

    def _steps_alike(self) -> int:
        """Steps of one token each until an answer ends or the blocks do."""
        most = min(job.request.output_tokens - job.emitted for job in self._running)
        free = self._blocks.free
        if blocks_for(most) * len(self._running) <= free:
            return most
        need_after = [0] * BLOCK_TOKENS  # who needs a block after how many steps, modulo 16
        for job in self._running:
            need_after[-job.computed % BLOCK_TOKENS] += 1
        for steps in range(1, most):
            free -= need_after[steps % BLOCK_TOKENS]
            if free < 0:
                return steps
        return most
