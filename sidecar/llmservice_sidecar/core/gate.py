"""Who may run now. A state machine: it reads no clock, starts no task and logs nothing.

Every call that frees room returns the ids it has just admitted. Driven by the asyncio shell and by
the simulator alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmservice_sidecar.core.decision import QUEUED, Admitted, Decision, Queued, Rejected, Standing
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.fair_share import charge_of
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.in_flight import Flight
from llmservice_sidecar.core.lanes import Lanes
from llmservice_sidecar.core.order import Order
from llmservice_sidecar.core.outlook import Outlook, own_key
from llmservice_sidecar.core.overtaking import Overtaking
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.queue import Waiting
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.room import Room, Turn
from llmservice_sidecar.core.rules import AdmissionRule, Running

__all__ = ["Admitted", "Decision", "Gate", "Queued", "Rejected", "Standing"]


class Gate:
    """Admits requests in key order while their slots fit the limit and every rule agrees.

    Higher priorities come first, each within its own cap; between tenants of one priority shares
    are fair (`core.lanes`). Nothing overtakes the head of a priority: when it wants more slots than
    are free, all wait for it. A request wider than the whole limit or its cap (after a shrink)
    stands behind all others until that grows.
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
        self._order = Order(policy, estimator)
        self._room = Room(limit_slots=limit_slots, rules=rules)
        self._max_queued = max_queued
        self._max_queued_tokens = max_queued_tokens
        self._lanes = Lanes()
        self._lanes.grow(limit_slots)
        self._numbers = itertools.count()
        self._overtaking = Overtaking()
        self.outlook = Outlook(
            order=self._order, room=self._room, lanes=self._lanes, overtaking=self._overtaking
        )
        self._closed = False
        self._key = self._order.keys(self._room)
        self._rebuild(0.0)

    @property
    def policy(self) -> OrderingPolicy:
        return self._order.policy

    @property
    def in_flight_slots(self) -> int:
        return self._room.in_flight.slots

    @property
    def limit_slots(self) -> int:
        return self._room.limit_slots

    @property
    def queued_requests(self) -> int:
        return len(self._lanes)

    @property
    def queued_tokens(self) -> float:
        """Predicted output tokens of all queued requests."""
        return self._lanes.predicted_tokens

    @property
    def gamma_per_s(self) -> float:
        """The gamma under which the queued keys were made."""
        return self._order.gamma_per_s

    def offer(self, request: Request, *, now: float) -> Decision:
        """A request arrives. Raises ValueError if its id is already here."""
        if request.id in self._room.in_flight or request.id in self._lanes:
            raise ValueError(f"request id {request.id!r} is already at the gate")
        if self._closed:
            return Rejected(Reason.DRAINING)
        if request.slots > 1 and self._room.is_wide(request):
            return Rejected(Reason.TOO_LARGE)
        self._order.offered(request)
        # With a free slot and a head that does not fit, new keys could admit somebody else, whom
        # this call cannot return: then the keys wait for the next call that can.
        is_full = self._room.is_full
        keep_keys = not is_full and self._lanes
        work_s = self.backlog_s(now=now) if keep_keys else self._refresh(now)
        if self._order.costs is not None:
            self._order.estimator.observe_arrival(work_s, now=now)
        item = Waiting(self._key(request), next(self._numbers), request)
        turn = None if is_full else self._turn_of(item, now)
        if request.deadline_at is not None:
            late_s = self.outlook.late_s(item, now=now, waits=turn is None)
            if late_s is not None:
                return Rejected(Reason.DEADLINE_UNREACHABLE, late_s)
        if turn is not None:
            self._run(turn, now=now, waited=False)
            return Admitted()
        return self._wait(item)

    def update(
        self,
        request_id: RequestId,
        *,
        prediction: Prediction | None = None,
        generated: int | None = None,
        now: float,
    ) -> Sequence[RequestId]:
        """A late prediction, or progress: `generated` tokens so far. Unknown ids are ignored."""
        flight = self._room.in_flight.get(request_id)
        if flight is not None:
            if prediction is not None:
                self._room.in_flight.predicted(flight, prediction)
            if generated is not None:
                self._progress(flight, generated, now=now)
            return ()
        item = self._lanes.get(request_id)
        if prediction is None or item is None:
            return ()
        request = replace(item.request, prediction=prediction)
        self._lanes.update(request_id, request, self._key(request))
        return self._fill(now)

    def rekey(self, *, now: float) -> Sequence[RequestId]:
        """Make all queued keys anew under the view of now. O(n log n)."""
        self._rebuild(now)
        return self._fill(now)

    def leave(
        self, request_id: RequestId, *, now: float, output_tokens: int | None = None
    ) -> Sequence[RequestId]:
        """A request ended, running or queued. `output_tokens` only if its answer is complete.

        Complete answers teach the estimator. An id that is not here changes nothing.
        """
        flight = self._room.leave(request_id)
        if flight is not None:
            self._settle(flight, output_tokens, now=now)
        elif request_id in self._lanes:
            self._overtaking.depart(self._lanes.remove(request_id).number)
        else:
            return ()
        if not self._lanes:
            return ()
        self._refresh(now)
        return self._fill(now)

    def resize(self, limit_slots: int, *, now: float) -> Sequence[RequestId]:
        """A new limit. After a shrink nobody is admitted until enough have left."""
        self._room.limit_slots = limit_slots
        self._lanes.grow(limit_slots)
        return self.rekey(now=now)

    def set_policy(self, policy: OrderingPolicy, *, now: float) -> Sequence[RequestId]:
        """A new order for all that wait."""
        self._order.policy = policy
        return self.rekey(now=now)

    def set_bounds(self, *, max_queued: int, max_queued_tokens: float | None) -> None:
        """New bounds of the queue; nobody who waits already is sent away."""
        self._max_queued = max_queued
        self._max_queued_tokens = max_queued_tokens

    def set_classes(
        self, *, caps: Mapping[int, int], promote_after_s: float | None, now: float
    ) -> Sequence[RequestId]:
        """`caps`: slots that a priority may hold; a missing one has no cap of its own.

        Who has waited longer than `promote_after_s` is served first, in arrival order, on at most a
        quarter of the slots.
        """
        self._room.caps = dict(caps)
        self._room.promote_after_s = promote_after_s
        return self.rekey(now=now)

    def close(self) -> None:
        """Refuse what comes from now on; what waits and runs goes on."""
        self._closed = True

    def reopen(self) -> None:
        """Take requests again: a drain was cancelled."""
        self._closed = False

    def standing(self, request_id: RequestId) -> Standing:
        """Where a request stands. Raises KeyError if it is neither queued nor running."""
        flight = self._room.in_flight.get(request_id)
        if flight is not None:
            return flight.standing
        item = self._lanes.get(request_id)
        if item is None:
            raise KeyError(f"request id {request_id!r} is not at the gate")
        return self.outlook.standing(item)

    def backlog_s(self, *, now: float) -> float:
        """Predicted seconds until all that is here is done; 0 while costs are unknown."""
        return self.outlook.backlog_s(now=now)

    def predicted_wait_s(self, request_id: RequestId, *, now: float) -> float | None:
        """Seconds until a queued request starts, O(n); None while costs are unknown."""
        item = self._lanes.get(request_id)
        return 0.0 if item is None else self.outlook.wait_s(item, now=now)

    def retry_after_s(self, *, now: float) -> float:
        """When a refused client should come back, from predicted remaining work."""
        return self.outlook.retry_after_s(now=now)

    def _turn_of(self, item: Waiting, now: float) -> Turn | None:
        """The newcomer's turn, if it is the newcomer's and a slot is free."""
        if not self._lanes:
            return Turn(item) if self._room.admits(item.request) else None
        self._lanes.push(item)
        turn = self._room.next(self._lanes, now=now)
        self._lanes.remove(item.request.id)
        return turn if turn is not None and turn.item is item else None

    def _wait(self, item: Waiting) -> Queued | Rejected:
        """Queue a newcomer, or say why not."""
        request, displaced = item.request, None
        bound = self._max_queued_tokens
        if bound is not None and self._lanes.predicted_tokens + request.predicted_tokens > bound:
            return Rejected(Reason.QUEUED_TOKENS)
        if len(self._lanes) >= self._max_queued:
            displaced = self._lanes.make_room(request)
            if displaced is None:
                return Rejected(Reason.QUEUE_FULL)
            self._overtaking.depart(displaced.number)
        self._lanes.push(item)
        self._overtaking.wait(item.number)
        return QUEUED if displaced is None else Queued(displaced.request.id)

    def _refresh(self, now: float) -> float:
        """Make keys anew if gamma, rates or time have moved too far; the backlog in seconds."""
        if self._order.costs_are_old:
            self._rebuild(now)
            return self.outlook.backlog_s(now=now)
        work_s = self.outlook.backlog_s(now=now)
        if self._order.is_old(work_s=work_s, now=now):
            self._rebuild(now)
        return work_s

    def _rebuild(self, now: float) -> None:
        costs = self._order.estimator.rates.costs
        if costs is not self._order.costs:
            self._room.in_flight.use(costs)
            self._order.use(costs)
        self._order.look(self.outlook.view(now=now))
        self._key = self._order.keys(self._room)
        self._lanes.rekey(self._key)

    def _fill(self, now: float) -> Sequence[RequestId]:
        admitted: list[RequestId] = []
        room, lanes = self._room, self._lanes
        while not room.is_full and lanes and (turn := room.next(lanes, now=now)) is not None:
            self._run(turn, now=now, waited=True)
            admitted.append(turn.item.request.id)
        return admitted

    def _run(self, turn: Turn, *, now: float, waited: bool) -> None:
        item, request = turn.item, turn.item.request
        depth = len(self._lanes)
        if waited:
            self._lanes.remove(request.id)
        overtook, overtaken_by, ids = self._overtaking.admit(item.number, request.id, waited=waited)
        # Nobody stands before it any more, and nobody can overtake it.
        standing = Standing(
            own_key(item), 0, depth, self._order.gamma_per_s, None, overtook, overtaken_by, ids
        )
        charge = self._lanes.charge(request)
        self._room.enter(Flight(Running(request, now), standing, charge, turn.promoted))

    def _progress(self, flight: Flight, generated: int, *, now: float) -> None:
        if self._room.in_flight.generated(flight, generated, now=now):
            rates, beside = self._order.estimator.rates, self._room.in_flight.slots
            rates.first_token(flight.running, now=now, beside=beside)

    def _settle(self, flight: Flight, output_tokens: int | None, *, now: float) -> None:
        """It has left: correct its tenant's account, and learn from a complete answer."""
        running = flight.running
        real = running.generated if output_tokens is None else output_tokens
        self._lanes.settle(flight.charge, charge_of(running.request, output_tokens=real))
        if output_tokens is not None:
            self._order.estimator.rates.finished(running, output_tokens=output_tokens, now=now)
