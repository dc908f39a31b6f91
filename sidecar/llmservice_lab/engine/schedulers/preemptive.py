"""A scheduler that may take a slot away at every iteration: the base of the systems beside it."""

# pyright: basic, reportMissingImports=false
# vllm exists in the engine's environment only.

from __future__ import annotations

import time
from typing import Any

import vllm
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.request_queue import SchedulingPolicy
from vllm.v1.request import Request

from llmservice_lab.engine.schedulers.hints import require_tested_version


class PreemptiveScheduler(AsyncScheduler):
    """The requests of the smallest rank run, whoever ran before; ties in arrival order.

    A rank stands in `priority`, which vLLM's own queue and its choice of victims obey; what the
    client sent there is replaced. Who is preempted computes prompt and answer again, but for what
    the prefix cache still holds. Needs `--scheduling-policy priority`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = type(self).__name__
        require_tested_version(name, vllm.__version__)
        if self.policy is not SchedulingPolicy.PRIORITY:
            raise ValueError(
                f"scheduler class {name} with --scheduling-policy {self.policy.value}; "
                "allowed: priority"
            )

    def rank(self, request: Request) -> float:
        """The smallest runs first. Must not change while the request waits."""
        raise NotImplementedError

    def add_request(self, request: Request) -> None:
        """A request arrives."""
        if request.request_id not in self.requests:
            request.priority = self.rank(request)
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:  # noqa: FBT001, FBT002 - vLLM's
        """Make room for those who wait with a smaller rank, then schedule as ever."""
        for request in self.running:
            request.priority = self.rank(request)
        self._make_room()
        return super().schedule(throttle_prefills)

    def _make_room(self) -> None:
        free = self.max_num_active_reqs - len(self.running)
        coming: list[Request] = []
        leaving: list[Request] = []
        while self.waiting:
            first = self.waiting.peek_request()
            if len(coming) >= free:
                worst = max(self.running, key=_order, default=None)
                if worst is None or _order(worst) <= _order(first):
                    break
                self.running.remove(worst)
                leaving.append(worst)
                free += 1
            coming.append(self.waiting.pop_request())
        for request in coming:
            self.waiting.add_request(request)
        now = time.monotonic()
        for request in leaving:
            self._preempt_request(request, now)


def _order(request: Request) -> tuple[float, float]:
    return request.priority, request.arrival_time
