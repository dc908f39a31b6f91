"""LTR: order by a ranking model's score, with per-iteration preemption and promotion."""

# pyright: basic, reportMissingImports=false
# vllm exists in the engine's environment only.

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.request import Request

from llmservice_lab.engine.schedulers.hints import predicted_tokens
from llmservice_lab.engine.schedulers.preemptive import PreemptiveScheduler

STARVED_AFTER: Final = 200  # iterations without the request
QUANTUM: Final = 10  # iterations that a promoted request runs


class LtrScheduler(PreemptiveScheduler):
    """Rank = predicted output tokens, whatever has come out (arXiv 2408.15792, algorithm 1).

    A request that was left out of 200 iterations in a row is promoted before all others until it
    has run for 10.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Since when a request waits, in order; what has run since is skipped when its turn comes.
        self._waits: deque[tuple[int, Request]] = deque()
        self._waiting_since: dict[str, int] = {}
        self._quantum: dict[str, int] = {}  # iterations that a promoted request has left

    def rank(self, request: Request) -> float:
        """The score; less than any score for a promoted request."""
        return -math.inf if request.request_id in self._quantum else predicted_tokens(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:  # noqa: FBT001, FBT002 - vLLM's
        """Promote who has starved, schedule, and count who ran."""
        self._promote()
        output = super().schedule(throttle_prefills)
        for request_id in output.num_scheduled_tokens:
            self._waiting_since.pop(request_id, None)
            left = self._quantum.get(request_id)
            if left is not None:
                self._quantum[request_id] = left - 1
                if left <= 1:
                    del self._quantum[request_id]
        return output

    def add_request(self, request: Request) -> None:
        """A request arrives and waits from now on."""
        is_new = request.request_id not in self.requests
        super().add_request(request)
        if is_new:
            self._begin_wait(request)

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super()._preempt_request(request, *args, **kwargs)
        self._begin_wait(request)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        self._waiting_since.pop(request.request_id, None)
        self._quantum.pop(request.request_id, None)
        return super()._free_request(request, *args, **kwargs)

    def _begin_wait(self, request: Request) -> None:
        self._waiting_since[request.request_id] = self.current_step
        self._waits.append((self.current_step, request))

    def _promote(self) -> None:
        while self._waits and self.current_step - self._waits[0][0] >= STARVED_AFTER:
            since, request = self._waits.popleft()
            if self._waiting_since.get(request.request_id) != since or self._holds_kv_blocks(
                request
            ):
                continue  # it has run, is gone, or comes first anyhow
            self._quantum[request.request_id] = QUANTUM
            self.waiting.remove_request(request)
            request.priority = self.rank(request)
            self.waiting.add_request(request)
