"""The latency executor on virtual time: it notes what a step takes and goes on at once."""

# pyright: basic, reportMissingImports=false
# torch and vllm exist in the engine's environment only.
# ruff: noqa: FBT001, FBT002 - the signatures are vLLM's

from __future__ import annotations

from typing import Any, Final

from vllm.v1.core.sched.output import SchedulerOutput

from llmservice_lab.engine.latency_executor import Answer, LatencyExecutor

END_OF_TEXT: Final = 2
FILLER: Final = 3  # every other token: what answers say is nobody's business here


class VirtualExecutor(LatencyExecutor):
    """After a step: its seconds, and whom the scheduler began with or preempted."""

    step_s: float
    scheduled: list[str]
    preempted: list[str]

    def _init_executor(self) -> None:
        super()._init_executor()
        self.step_s = 0.0
        self.scheduled = []
        self.preempted = []

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """One step, in no time."""
        self.step_s = 0.0
        self.scheduled = [new.req_id for new in scheduler_output.scheduled_new_reqs]
        self.preempted = sorted(scheduler_output.preempted_req_ids or ())
        return super().execute_model(scheduler_output, non_block)

    def wait(self, seconds: float) -> None:
        """Note the step's seconds."""
        self.step_s = seconds

    def next_token(self, answer: Answer) -> int:
        """Filler up to the end."""
        answer.emitted += 1
        return END_OF_TEXT if answer.emitted == answer.length else FILLER
