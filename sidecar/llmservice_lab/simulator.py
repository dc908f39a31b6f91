"""A run on virtual time: the gate of the sidecar, driven by recorded requests and a plain engine.

What is measured here is what runs in production: same queue, same order, same guard. Only engine
and clock are made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmservice_sidecar.core.decision import Admitted, Rejected
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.guard import ArrivalOrder, Guard
from llmservice_sidecar.core.policy import Fcfs, OrderingPolicy
from llmservice_sidecar.core.request import Outcome, Prediction, Request, RequestId

from llmservice_lab.capacity import completed_per_second
from llmservice_lab.cost_model import CostModel
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_predictors import Constant, SimPredictor
from llmservice_lab.virtual_engine import Starting, VirtualEngine
from llmservice_lab.workload import WorkloadRequest

# As deployed by default.
GUARD_MIN_SAMPLES = 200
GUARD_WINDOW = 2000
GUARD_MAX_AGE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One run: `rows` arrive at `arrivals_s` (ascending, seconds) at an engine of `slots`.

    `guarded`: predictions order the queue only while they rank better than chance, as deployed.
    `max_queued` None means no bound, so that every policy does the same work. `on_ended` hears
    after every step how many requests have ended.
    """

    rows: Sequence[WorkloadRequest]
    arrivals_s: Sequence[float]
    policy: OrderingPolicy
    predictor: SimPredictor
    costs: CostModel
    slots: int
    guarded: bool = True
    max_queued: int | None = None
    on_ended: Callable[[int], None] | None = None


@dataclass(slots=True)
class _Life:
    """One request while the run goes on."""

    row: WorkloadRequest
    arrival_s: float
    prediction: Prediction
    outcome: Outcome = Outcome.COMPLETED
    admitted_s: float | None = None
    first_token_s: float | None = None
    finished_s: float | None = None

    @property
    def output_tokens(self) -> int:
        limit = self.row.max_tokens
        return self.row.output_tokens if limit is None else min(self.row.output_tokens, limit)

    def record(self) -> RequestRecord:
        return RequestRecord(
            arrival_s=self.arrival_s,
            output_tokens=self.output_tokens,
            outcome=self.outcome,
            admitted_s=self.admitted_s,
            first_token_s=self.first_token_s,
            finished_s=self.finished_s,
            predicted_tokens=self.prediction.output_tokens,
        )


def simulate(setup: Setup) -> list[RequestRecord]:
    """Serve everything; records in order of arrival. The same setup gives the same records."""
    return _Run(setup).serve()


def measure_capacity(rows: Sequence[WorkloadRequest], *, costs: CostModel, slots: int) -> float:
    """Completed requests a second in the middle 80 % of a run with all present at time 0.

    Raises ValueError below ten requests.
    """
    setup = Setup(
        rows=rows,
        arrivals_s=[0.0] * len(rows),
        policy=Fcfs(),
        predictor=Constant(),
        costs=costs,
        slots=slots,
        guarded=False,
    )
    records = simulate(setup)
    return completed_per_second([r.finished_s for r in records if r.finished_s is not None])


class _Run:
    """The state of one run: requests are named by their index in order of arrival."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._lives: list[_Life] = []
        self._ended = 0
        self._engine = VirtualEngine(setup.costs)
        self._guard = Guard(
            min_samples=GUARD_MIN_SAMPLES,
            window=GUARD_WINDOW,
            starts_trusted=setup.predictor.starts_trusted,
        )
        self._samples = ArrivalOrder(self._guard, max_age_s=GUARD_MAX_AGE_S)
        self._obeyed = self._trusted()
        self._gate = Gate(
            policy=self._policy(),
            limit_slots=setup.slots,
            max_queued=len(setup.rows) if setup.max_queued is None else setup.max_queued,
            estimator=WorkEstimator(),
        )

    def serve(self) -> list[RequestRecord]:
        while True:
            step_ends_s = self._engine.next_event_s()
            if len(self._lives) < len(self._setup.rows) and self._next_arrival_s() <= (
                math.inf if step_ends_s is None else step_ends_s
            ):
                self._arrive()
            elif step_ends_s is not None:
                self._step()
            else:
                return [life.record() for life in self._lives]

    def _next_arrival_s(self) -> float:
        return self._setup.arrivals_s[len(self._lives)]

    def _arrive(self) -> None:
        now, index = self._next_arrival_s(), len(self._lives)
        row = self._setup.rows[index]
        life = _Life(row, now, self._setup.predictor.predict(index, row))
        self._lives.append(life)
        request = Request(
            id=RequestId(str(index)),
            arrived_at=now,
            prompt_tokens=row.prompt_tokens,
            prediction=life.prediction,
            max_tokens=row.max_tokens,
            tenant=row.tenant,
        )
        if self._setup.guarded:
            self._samples.arrived(request.id, now=now)
        decision = self._gate.offer(request, now=now)
        if isinstance(decision, Admitted):
            self._start([request.id], now)
        elif isinstance(decision, Rejected):
            life.outcome = Outcome.REJECTED
            self._ended += 1
            self._samples.left(request.id, now=now)

    def _step(self) -> None:
        progress = self._engine.advance()
        now = progress.now
        for index in progress.first_tokens:
            self._lives[index].first_token_s = now
            self._start(self._gate.update(RequestId(str(index)), generated=1, now=now), now)
        for index in progress.finished:
            self._finish(index, now)
        if self._obeyed != self._trusted():
            self._obeyed = self._trusted()
            self._start(self._gate.set_policy(self._policy(), now=now), now)
        if self._setup.on_ended is not None:
            self._setup.on_ended(self._ended)

    def _finish(self, index: int, now: float) -> None:
        life, request_id = self._lives[index], RequestId(str(index))
        life.finished_s = now
        self._ended += 1
        actual = life.output_tokens
        self._start(self._gate.leave(request_id, now=now, output_tokens=actual), now)
        self._setup.predictor.observe(index, life.row)
        if self._setup.guarded:
            predicted = life.prediction.output_tokens
            self._samples.finished(request_id, predicted=predicted, actual=actual, now=now)

    def _start(self, admitted: Sequence[RequestId], now: float) -> None:
        for request_id in admitted:
            life = self._lives[int(request_id)]
            life.admitted_s = now
            starting = Starting(
                index=int(request_id),
                prefill_tokens=max(life.row.prompt_tokens - life.row.cached_tokens, 0),
                output_tokens=life.output_tokens,
            )
            self._engine.start(starting, now=now)

    def _trusted(self) -> bool:
        return self._guard.closed or not self._setup.guarded

    def _policy(self) -> OrderingPolicy:
        return self._setup.policy if self._trusted() else Fcfs()
