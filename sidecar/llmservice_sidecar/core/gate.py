"""Who may run now. A state machine: it reads no clock, starts no task and logs nothing.

Every call that frees room returns the ids it has just admitted. Driven by the asyncio shell and by
the simulator alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from llmservice_sidecar.core.decision import Admitted, Decision, Queued, Rejected, Standing
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.gamma import WorkEstimator, moved
from llmservice_sidecar.core.overtaking import Overtaking
from llmservice_sidecar.core.policy import OrderingPolicy, QueueView
from llmservice_sidecar.core.queue import Key, RequestQueue
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import AdmissionRule, Running

__all__ = ["Admitted", "Decision", "Gate", "Queued", "Rejected", "Standing"]

MIN_RETRY_AFTER_S: Final = 1.0
MAX_RETRY_AFTER_S: Final = 300.0


@dataclass(slots=True)
class _InFlight:
    running: Running
    standing: Standing


class Gate:
    """Admits requests in key order while their slots fit the limit and every rule agrees.

    Nothing overtakes the head: when it wants more slots than are free, all wait for it. A request
    wider than the whole limit (after a shrink) stands behind all others until the limit grows.
    """

    def __init__(
        self,
        *,
        policy: OrderingPolicy,
        rules: Sequence[AdmissionRule] = (),
        limit_slots: int,
        max_queued: int,
        max_queued_tokens: float | None = None,
        estimator: WorkEstimator,
    ) -> None:
        self._policy = policy
        self._rules = tuple(rules)
        self._limit = limit_slots
        self._max_queued = max_queued
        self._max_queued_tokens = max_queued_tokens
        self._estimator = estimator
        self._queue = RequestQueue()
        self._running: dict[RequestId, _InFlight] = {}
        self._in_flight = 0
        self._numbers = itertools.count()
        self._overtaking = Overtaking()
        self._closed = False
        self._view = self._view_at(0.0, 0.0)

    @property
    def policy(self) -> OrderingPolicy:
        return self._policy

    @property
    def in_flight_slots(self) -> int:
        return self._in_flight

    @property
    def limit_slots(self) -> int:
        return self._limit

    @property
    def queued_requests(self) -> int:
        return len(self._queue)

    @property
    def queued_tokens(self) -> float:
        """Predicted output tokens of all queued requests."""
        return self._queue.predicted_tokens

    @property
    def gamma_per_s(self) -> float:
        """The gamma under which the queued keys were made."""
        return self._view.gamma_per_s

    def offer(self, request: Request, *, now: float) -> Decision:
        """A request arrives. Raises ValueError if its id is already here."""
        if request.id in self._running or request.id in self._queue:
            raise ValueError(f"request id {request.id!r} is already at the gate")
        if self._closed:
            return Rejected(Reason.DRAINING)
        if request.slots > max(self._limit, 1):
            return Rejected(Reason.TOO_LARGE)
        work_s = self.backlog_s(now=now)
        self._estimator.observe_arrival(work_s)
        if not self._queue or self._in_flight >= self._limit:
            # With a free slot and a head that does not fit, new keys could admit somebody else,
            # whom this call cannot return: then the keys wait for the next call that can.
            self._refresh(self._view_at(now, work_s))
        key = self._key(request)
        if self._leads(key) and self._fits(request):
            standing = Standing(
                key=key[1:],
                position=0,
                depth=len(self._queue),
                gamma_per_s=self._view.gamma_per_s,
            )
            self._run(request, standing, next(self._numbers), now=now)
            return Admitted()
        if len(self._queue) >= self._max_queued:
            return Rejected(Reason.QUEUE_FULL)
        if self._over_tokens(request):
            return Rejected(Reason.QUEUED_TOKENS)
        number = next(self._numbers)
        self._queue.push(request, key=key, number=number)
        self._overtaking.wait(number)
        return Queued(self.standing(request.id))

    def update(
        self,
        request_id: RequestId,
        *,
        prediction: Prediction | None = None,
        generated: int | None = None,
        now: float,
    ) -> Sequence[RequestId]:
        """A late prediction, or progress: `generated` tokens so far. Unknown ids are ignored."""
        flight = self._running.get(request_id)
        if flight is not None:
            _progress(flight.running, prediction, generated, now=now)
            return ()
        if prediction is None or request_id not in self._queue:
            return ()
        item = self._queue.remove(request_id)
        request = replace(item.request, prediction=prediction)
        self._queue.push(request, key=self._key(request), number=item.number)
        return self._fill(now)

    def rekey(self, *, now: float) -> Sequence[RequestId]:
        """Make all queued keys anew under the view of now. O(n log n)."""
        self._rebuild(self._view_at(now, self.backlog_s(now=now)))
        return self._fill(now)

    def leave(
        self, request_id: RequestId, *, now: float, output_tokens: int | None = None
    ) -> Sequence[RequestId]:
        """A request ended, running or queued. `output_tokens` only if its answer is complete.

        Complete answers teach the estimator. An id that is not here changes nothing.
        """
        flight = self._running.pop(request_id, None)
        if flight is not None:
            self._in_flight -= flight.running.request.slots
            if output_tokens is not None:
                self._learn(flight.running, now=now)
        elif request_id in self._queue:
            self._overtaking.depart(self._queue.remove(request_id).number)
        else:
            return ()
        if self._queue:
            self._refresh(self._view_at(now, self.backlog_s(now=now)))
        return self._fill(now)

    def resize(self, limit_slots: int, *, now: float) -> Sequence[RequestId]:
        """A new limit. After a shrink nobody is admitted until enough have left."""
        self._limit = limit_slots
        return self.rekey(now=now)

    def set_policy(self, policy: OrderingPolicy, *, now: float) -> Sequence[RequestId]:
        """A new order for all that wait."""
        self._policy = policy
        return self.rekey(now=now)

    def set_bounds(self, *, max_queued: int, max_queued_tokens: float | None) -> None:
        """New bounds of the queue; nobody who waits already is sent away."""
        self._max_queued = max_queued
        self._max_queued_tokens = max_queued_tokens

    def close(self) -> None:
        """Refuse what comes from now on; what waits and runs goes on."""
        self._closed = True

    def reopen(self) -> None:
        """Take requests again: a drain was cancelled."""
        self._closed = False

    def standing(self, request_id: RequestId) -> Standing:
        """Where a request stands. Raises KeyError if it is neither queued nor running."""
        flight = self._running.get(request_id)
        if flight is not None:
            return flight.standing
        item = self._queue.get(request_id)
        if item is None:
            raise KeyError(f"request id {request_id!r} is not at the gate")
        count, ids = self._overtaking.of(item.number)
        return Standing(
            key=item.key[1:],
            position=self._queue.position(request_id),
            depth=len(self._queue),
            gamma_per_s=self._view.gamma_per_s,
            overtaken_by=count,
            overtaken_by_ids=ids,
        )

    def backlog_s(self, *, now: float) -> float:
        """Predicted seconds until all that is here is done; 0 while service times are unknown."""
        running = (flight.running for flight in self._running.values())
        work = self._estimator.work_s(self._queue.work_tokens, running, now=now)
        return work / max(self._limit, 1)

    def retry_after_s(self, *, now: float) -> float:
        """When a refused client should come back: once half of the predicted backlog is done.

        Not the whole of it, or the slots would idle when all refused clients return at once.
        """
        return min(max(self.backlog_s(now=now) / 2, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)

    def _view_at(self, now: float, work_s: float) -> QueueView:
        return QueueView(
            now=now,
            depth=len(self._queue),
            in_flight=self._in_flight,
            gamma_per_s=self._policy.tail_weight / self._estimator.horizon_s(work_s),
            s_per_token=self._estimator.s_per_token,
        )

    def _refresh(self, view: QueueView) -> None:
        if (
            not self._queue
            or moved(self._view.gamma_per_s, view.gamma_per_s)
            or moved(self._view.s_per_token, view.s_per_token)
        ):
            self._rebuild(view)

    def _rebuild(self, view: QueueView) -> None:
        self._view = view
        self._queue.rekey(self._key)

    def _key(self, request: Request) -> Key:
        # What is wider than the limit cannot run and must not block what can.
        return (float(request.slots > self._limit), *self._policy.key(request, self._view))

    def _leads(self, key: Key) -> bool:
        head = self._queue.head
        return head is None or key < head.key

    def _fits(self, request: Request) -> bool:
        if self._in_flight + request.slots > self._limit:
            return False
        if not self._rules:
            return True
        running = [flight.running for flight in self._running.values()]
        return all(rule.admits(request, running) for rule in self._rules)

    def _over_tokens(self, request: Request) -> bool:
        bound = self._max_queued_tokens
        return bound is not None and self._queue.predicted_tokens + request.predicted_tokens > bound

    def _fill(self, now: float) -> Sequence[RequestId]:
        admitted: list[RequestId] = []
        while (head := self._queue.head) is not None and self._fits(head.request):
            admitted.append(head.request.id)
            standing = self.standing(head.request.id)
            self._queue.remove(head.request.id)
            self._overtaking.depart(head.number)
            self._run(head.request, standing, head.number, now=now)
        return admitted

    def _run(self, request: Request, standing: Standing, number: int, *, now: float) -> None:
        overtook = self._overtaking.admit(number, request.id)
        running = Running(request=request, admitted_at=now, work_tokens=request.work_tokens)
        self._running[request.id] = _InFlight(running, replace(standing, overtook=overtook))
        self._in_flight += request.slots

    def _learn(self, running: Running, *, now: float) -> None:
        # Without a sign of the first token (an answer in one piece) admission is the best start.
        start = running.admitted_at if running.first_token_at is None else running.first_token_at
        service_s = (now - start) * running.request.slots
        self._estimator.observe_service(service_s, work_tokens=running.work_tokens)


def _progress(
    running: Running, prediction: Prediction | None, generated: int | None, *, now: float
) -> None:
    if prediction is not None:
        running.request = replace(running.request, prediction=prediction)
        running.work_tokens = running.request.work_tokens
    if generated is not None:
        running.generated = max(running.generated, generated)
        if running.first_token_at is None and generated > 0:
            running.first_token_at = now
