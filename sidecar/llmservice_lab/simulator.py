"""A run on virtual time: the gate of the sidecar, driven by recorded requests and an engine.

What is measured here is what runs in production: same queue, same order, same rules, same guard.
Made up is the clock, and the engine where it is not vLLM's own scheduler.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias, runtime_checkable

from llmservice_sidecar.core.decision import Admitted, Rejected
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.guard import ArrivalOrder, Guard
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policy import OrderingPolicy, QueueView, SlicingPolicy
from llmservice_sidecar.core.request import Outcome, Prediction, RequestId
from llmservice_sidecar.core.rules import AdmissionRule

from llmservice_lab.capacity import completed_per_second
from llmservice_lab.cost_model import CostModel
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_engine import Engine, EngineOptions
from llmservice_lab.sim_life import Life, index_of
from llmservice_lab.sim_predictors import Constant, SimPredictor
from llmservice_lab.virtual_engine import VirtualEngine
from llmservice_lab.virtual_kv_engine import VirtualKvEngine
from llmservice_lab.workload import WorkloadRequest

# As deployed by default.
GUARD_MIN_SAMPLES: Final = 200
GUARD_WINDOW: Final = 2000
GUARD_MAX_AGE_S: Final = 600.0

# Every so many queued requests one is told its wait, unless more than so many stand before it: an
# estimate costs as much as the queue is long.
ESTIMATE_EVERY: Final = 8
ESTIMATE_MAX_POSITION: Final = 256

PLAIN_ENGINE: Final = EngineOptions()


@runtime_checkable
class RemainingPredictor(Protocol):
    """A predictor that looks again when a slice is over."""

    def predict_remaining(self, index: int, row: WorkloadRequest, generated: int) -> Prediction:
        """Of the tokens to come after `generated` ones."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One run: `rows` arrive at `arrivals_s` (ascending, seconds) at an engine of `slots`.

    `guarded`: predictions order the queue only while they rank better than chance, as deployed.
    `max_queued` None means no bound, so that every policy does the same work; `limit_slots` None
    lets as many in flight as the engine has slots. `leave_s` are the seconds without a turn after
    which each gives up (None: never). `on_ended` hears after every step how many have ended.
    """

    rows: Sequence[WorkloadRequest]
    arrivals_s: Sequence[float]
    policy: OrderingPolicy
    predictor: SimPredictor
    costs: CostModel
    slots: int
    rules: Sequence[AdmissionRule] = ()
    guarded: bool = True
    max_queued: int | None = None
    limit_slots: int | None = None
    leave_s: Sequence[float | None] = ()
    options: EngineOptions = PLAIN_ENGINE
    on_ended: Callable[[int], None] | None = None


Simulate: TypeAlias = Callable[[Setup], list[RequestRecord]]


def simulate(setup: Setup) -> list[RequestRecord]:
    """Serve everything with the plain engine; records in order of arrival.

    The same setup gives the same records. Raises ValueError for options of vLLM's engine alone.
    """
    # One class would do; without a bound the plain one is several times faster.
    kind = VirtualEngine if setup.options.kv_tokens is None else VirtualKvEngine
    return drive(setup, kind(setup.costs, slots=setup.slots, options=setup.options))


def drive(setup: Setup, engine: Engine) -> list[RequestRecord]:
    """Serve everything with `engine`, which is new; records in order of arrival."""
    return _Run(setup, engine).serve()


def measure_capacity(
    rows: Sequence[WorkloadRequest],
    *,
    costs: CostModel,
    slots: int,
    options: EngineOptions = PLAIN_ENGINE,
    run: Simulate = simulate,
) -> float:
    """Completed requests a second in the middle 80 % of a run with all present at time 0.

    Raises ValueError below ten requests.
    """
    setup = Setup(
        # Present all at once most deadlines are out of reach, and the figure is of all requests.
        rows=[replace(row, deadline_s=None) for row in rows],
        arrivals_s=[0.0] * len(rows),
        policy=Fcfs(),
        predictor=Constant(),
        costs=costs,
        slots=slots,
        guarded=False,
        options=options,
    )
    records = run(setup)
    return completed_per_second([r.finished_s for r in records if r.finished_s is not None])


class _Run:
    """The state of one run: requests are named by their index in order of arrival."""

    def __init__(self, setup: Setup, engine: Engine) -> None:
        self._setup = setup
        self._engine = engine
        self._lives: list[Life] = []
        self._ended = 0
        self._queued = 0
        self._leaving: list[tuple[float, int]] = []  # a heap: who gives up next
        self._guard = Guard(
            min_samples=GUARD_MIN_SAMPLES,
            window=GUARD_WINDOW,
            starts_trusted=setup.predictor.starts_trusted,
        )
        guard = self._guard
        self._samples = ArrivalOrder[tuple[float, float]](
            lambda pair: guard.observe(*pair), max_age_s=GUARD_MAX_AGE_S
        )
        self._obeyed = self._trusted()
        self._estimator = WorkEstimator()
        self._gate = Gate(
            policy=self._policy(),
            rules=setup.rules,
            limit_slots=_limit_slots(setup),
            max_queued=len(setup.rows) if setup.max_queued is None else setup.max_queued,
            estimator=self._estimator,
        )

    def serve(self) -> list[RequestRecord]:
        while True:
            planned_s = self._engine.next_event_s()
            step_ends_s = math.inf if planned_s is None else planned_s
            next_s = min(self._next_arrival_s(), step_ends_s)
            if self._leaving and self._leaving[0][0] <= next_s:
                self._give_up(*heapq.heappop(self._leaving))
            elif next_s == math.inf:
                return [life.record() for life in self._lives]
            elif next_s == self._next_arrival_s():
                self._arrive()
            else:
                self._step()

    def _next_arrival_s(self) -> float:
        arrived = len(self._lives)
        return math.inf if arrived == len(self._setup.rows) else self._setup.arrivals_s[arrived]

    def _arrive(self) -> None:
        now, index = self._next_arrival_s(), len(self._lives)
        row = self._setup.rows[index]
        life = Life(index, row, now, self._setup.predictor.predict(index, row))
        self._lives.append(life)
        if self._setup.guarded:
            self._samples.arrived(life.request_id, now=now)
        self._tell_progress(now)
        if self._setup.leave_s and (leave_s := self._setup.leave_s[index]) is not None:
            heapq.heappush(self._leaving, (now + leave_s, index))
        self._offer(life, now=now, refused=Outcome.REJECTED)

    def _give_up(self, now: float, index: int) -> None:
        life = self._lives[index]
        if life.admitted_s is None and life.outcome is Outcome.COMPLETED:
            self._drop(life, Outcome.CANCELLED, now=now)
            self._start(self._gate.leave(life.request_id, now=now), now)

    def _offer(self, life: Life, *, now: float, refused: Outcome) -> None:
        decision = self._gate.offer(life.request(), now=now)
        if isinstance(decision, Admitted):
            self._start([life.request_id], now)
        elif isinstance(decision, Rejected):
            self._drop(life, refused, now=now)
        else:
            self._estimate_wait(life, now)
            if decision.displaced is not None:
                self._drop(self._lives[index_of(decision.displaced)], Outcome.EVICTED, now=now)

    def _estimate_wait(self, life: Life, now: float) -> None:
        self._queued += 1
        if life.slices or self._queued % ESTIMATE_EVERY:
            return
        if self._gate.standing(life.request_id).position <= ESTIMATE_MAX_POSITION:
            life.predicted_wait_s = self._gate.predicted_wait_s(life.request_id, now=now)

    def _drop(self, life: Life, outcome: Outcome, *, now: float) -> None:
        life.outcome = outcome
        self._ended += 1
        self._samples.left(RequestId(str(life.index)), now=now)

    def _step(self) -> None:
        progress = self._engine.advance()
        now = progress.now
        for index in progress.scheduled:
            self._lives[index].scheduled(progress.began_s)
        for index in progress.preempted:
            self._lives[index].preemptions += 1
        for index in progress.first_tokens:
            life = self._lives[index]
            if life.first_token_s is None:
                life.first_token_s = now
            self._start(self._gate.update(life.request_id, generated=1, now=now), now)
        if progress.finished:
            self._tell_progress(now)
            # Engines list those of one step each in its own order; what is learned depends on it.
            for index in sorted(progress.finished):
                self._end_slice(self._lives[index], now)
        if self._obeyed != self._trusted():
            self._obeyed = self._trusted()
            self._start(self._gate.set_policy(self._policy(), now=now), now)
        if self._setup.on_ended is not None:
            self._setup.on_ended(self._ended)

    def _tell_progress(self, now: float) -> None:
        """What a stream shows of the running requests; only rules look at it."""
        if self._setup.rules:
            for index, tokens in self._engine.emitted(now=now):
                self._gate.update(self._lives[index].request_id, generated=tokens, now=now)

    def _end_slice(self, life: Life, now: float) -> None:
        request_id = life.request_id
        life.end_slice()
        if life.complete:
            self._finish(life, request_id, now)
            return
        predictor = self._setup.predictor
        if isinstance(predictor, RemainingPredictor):
            life.prediction = predictor.predict_remaining(life.index, life.row, life.generated)
        else:
            life.expect_less()
        self._offer(life, now=now, refused=Outcome.EVICTED)
        self._start(self._gate.leave(request_id, now=now), now)

    def _finish(self, life: Life, request_id: RequestId, now: float) -> None:
        life.finished_s = now
        self._ended += 1
        self._start(self._gate.leave(request_id, now=now, output_tokens=life.slice_tokens), now)
        self._setup.predictor.observe(life.index, life.row)
        if self._setup.guarded:
            self._samples.finished(
                RequestId(str(life.index)),
                (life.first_prediction.output_tokens, float(life.output_tokens)),
                now=now,
            )

    def _start(self, admitted: Sequence[RequestId], now: float) -> None:
        for request_id in admitted:
            life = self._lives[index_of(request_id)]
            self._engine.start(life.start(self._slice_tokens(life, now), now=now), now=now)

    def _slice_tokens(self, life: Life, now: float) -> int | None:
        policy = self._gate.policy
        if not isinstance(policy, SlicingPolicy):
            return None
        view = QueueView(
            now=now,
            depth=self._gate.queued_requests,
            in_flight=self._gate.in_flight_slots,
            limit_slots=self._gate.limit_slots,
            gamma_per_s=self._gate.gamma_per_s,
            costs=self._estimator.rates.costs,
        )
        return policy.slice_tokens(life.request(), view)

    def _trusted(self) -> bool:
        return self._guard.closed or not self._setup.guarded

    def _policy(self) -> OrderingPolicy:
        return self._setup.policy if self._trusted() else Fcfs()


def _limit_slots(setup: Setup) -> int:
    """As many as the engine has slots, unless it is told or the engine orders for itself."""
    if setup.limit_slots is not None:
        return setup.limit_slots
    return setup.slots if setup.options.scheduler_class is None else len(setup.rows)
