"""One request through a simulated run: what the gate and the engine are told of it, what became."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from llmservice_sidecar.core.request import Outcome, Prediction, Request, RequestId

from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_engine import Starting
from llmservice_lab.workload import WorkloadRequest


def index_of(request_id: RequestId) -> int:
    """The request's index in order of arrival; its slices have different ids at the gate."""
    return int(request_id.partition("/")[0])


@dataclass(slots=True)
class Life:
    """A request while the run goes on. `prediction` is of the tokens that are still to come."""

    index: int
    row: WorkloadRequest
    arrival_s: float
    prediction: Prediction
    generated: int = 0  # in slices that are over
    slices: int = 0
    slice_tokens: int = 0  # of the slice that runs
    outcome: Outcome = Outcome.COMPLETED
    predicted_wait_s: float | None = None  # of a sample that queued
    admitted_s: float | None = None
    sent_s: float = 0.0  # to the engine, the last time
    engine_queue_s: float | None = None
    first_token_s: float | None = None
    finished_s: float | None = None
    preemptions: int = 0
    first_prediction: Prediction = field(init=False)
    output_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_prediction = self.prediction
        limit, real = self.row.max_tokens, self.row.output_tokens
        self.output_tokens = real if limit is None else min(real, limit)

    @property
    def request_id(self) -> RequestId:
        """Its id at the gate. A later slice has one of its own: it is offered before the earlier
        leaves, so that it competes for the slot that it gives up."""
        return RequestId(f"{self.index}/{self.slices}" if self.slices else str(self.index))

    @property
    def complete(self) -> bool:
        return self.generated >= self.output_tokens

    def request(self) -> Request:
        """What the gate is told. A later slice's prompt is cached but for its last block."""
        row = self.row
        cached = row.cached_tokens
        if self.generated:
            cached = max(
                row.prompt_tokens - self._starting(0).prefill_tokens(prefix_caching=True), 0
            )
        return Request(
            id=self.request_id,
            arrived_at=self.arrival_s,
            prompt_tokens=row.prompt_tokens,
            prediction=self.prediction,
            max_tokens=row.max_tokens,
            slots=row.slots,
            tenant=row.tenant,
            priority=row.priority or 0,
            deadline_at=None if row.deadline_s is None else self.arrival_s + row.deadline_s,
            cached_tokens=cached,
            generated_tokens=self.generated,
        )

    def start(self, tokens: int | None, *, now: float) -> Starting:
        """It goes to the engine: for `tokens` tokens, or to its end."""
        left = self.output_tokens - self.generated
        self.slice_tokens = left if tokens is None else max(1, min(tokens, left))
        self.sent_s = now
        if self.admitted_s is None:
            self.admitted_s = now
        return self._starting(self.slice_tokens)

    def scheduled(self, now: float) -> None:
        """The engine has begun with it."""
        self.engine_queue_s = (self.engine_queue_s or 0.0) + now - self.sent_s

    def end_slice(self) -> None:
        """What was asked of the engine is done."""
        self.generated += self.slice_tokens
        self.slices += 1

    def expect_less(self) -> None:
        """The prediction of what is left follows from the first one, at least one token."""
        first = self.first_prediction
        self.prediction = replace(
            first,
            output_tokens=max(first.output_tokens - self.generated, 1.0),
            p90_tokens=max(first.p90_tokens - self.generated, 1.0),
        )

    def record(self) -> RequestRecord:
        return RequestRecord(
            arrival_s=self.arrival_s,
            output_tokens=self.output_tokens,
            outcome=self.outcome,
            admitted_s=self.admitted_s,
            first_token_s=self.first_token_s,
            finished_s=self.finished_s,
            predicted_tokens=self.first_prediction.output_tokens,
            predicted_wait_s=self.predicted_wait_s,
            engine_queue_s=self.engine_queue_s,
            preemptions=self.preemptions,
        )

    def _starting(self, tokens: int) -> Starting:
        row = self.row
        return Starting(
            index=self.index,
            prompt_tokens=row.prompt_tokens,
            output_tokens=tokens,
            cached_tokens=row.cached_tokens,
            generated_tokens=self.generated,
            ends=self.generated + tokens >= self.output_tokens,
            priority=row.priority or 0,
            predicted_tokens=self.prediction.output_tokens,
        )
