"""The asyncio shell around the gate: futures and timers, no decisions."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from llmservice_sidecar.core.decision import Decision, Queued, Rejected, Standing
from llmservice_sidecar.core.errors import Reason, RequestEvicted, RequestRejected
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.runtime.call import OnQueued, Place

FORESEEN_PLACES: Final = 256  # a prediction costs as many steps as there are places before it
TOLD_OF_POLICY: Final = 256  # those that have waited longest: all of a long queue would take long

_REJECTED = {
    Reason.QUEUE_FULL: "the queue is full",
    Reason.QUEUED_TOKENS: "the queue holds too many predicted tokens",
    Reason.DEADLINE_UNREACHABLE: (
        "the answer is expected to be complete in {estimate_s:.1f} s; the deadline is in "
        "{left_s:.1f} s"
    ),
    Reason.DRAINING: "this replica is draining",
    Reason.TOO_LARGE: (
        "the request wants more slots (n x prompts) than this service or its priority runs at once"
    ),
}
_EVICTED = {
    Reason.DEADLINE: "the deadline passed while the request was queued",
    Reason.QUEUE_TIMEOUT: "the request waited longer than the queue timeout",
    Reason.QUEUE_SHARE: (
        "the queue is full; this place went to a higher priority or to a tenant with fewer waiting"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a request may wait for its turn, and what it is called when that is over."""

    wait_s: float
    reason: Reason


class Watch(Protocol):
    """Is told what becomes of a request at the gate, as it happens."""

    def offered(self, ticket: Ticket, decision: Decision) -> None: ...

    def moved(self, standing: Standing, prediction: Prediction | None = None) -> None:
        """It waits under another key: by a late `prediction`, or by another policy."""
        ...


@dataclass(slots=True, kw_only=True)
class Ticket:
    """A request at the gate. Whoever holds it says at the end how long the answer was.

    `foresee`: note in `predicted_wait_s` how long the whole wait will be, as far as is known.
    """

    request: Request
    foresee: bool = False
    watch: Watch | None = None
    queued: Standing | None = None  # how it stood when it had to wait
    admitted: Standing | None = None
    gave_up: Standing | None = None  # how it stood when it left unserved, if it is watched
    wait_s: float = 0.0
    predicted_wait_s: float | None = None
    output_tokens: int | None = None


class AsyncGate:
    """Lets coroutines wait for their turn at a `Gate`. One per process, one event loop."""

    def __init__(self, gate: Gate, *, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._clock = clock
        self._turns: dict[RequestId, asyncio.Future[Standing | Reason]] = {}
        self._watches: dict[RequestId, Watch] = {}  # of those in _turns that have one
        self._since: dict[RequestId, float] = {}  # arrival of those in _turns, the earliest first

    @property
    def state(self) -> Gate:
        """The gate itself, for reading. Changes go through this shell: it wakes the admitted."""
        return self._gate

    @property
    def waiting(self) -> int:
        """Coroutines that wait for their turn; equal to the queued requests between ticks."""
        return len(self._turns)

    @contextlib.asynccontextmanager
    async def admit(
        self,
        ticket: Ticket,
        *,
        patience: Patience,
        on_queued: OnQueued | None = None,
    ) -> AsyncGenerator[Ticket]:
        """Hold the request's slots for the block; leaving it, however, frees them exactly once.

        Raises RequestRejected at once, RequestEvicted when the patience ends before the turn or a
        full queue gives the place to another.
        """
        request = ticket.request
        decision = self._gate.offer(request, now=self._clock())
        if isinstance(decision, Rejected):
            if ticket.watch is not None:
                ticket.watch.offered(ticket, decision)
            raise self._rejection(request, decision)
        try:
            if isinstance(decision, Queued):
                if decision.displaced is not None:
                    _end(self._turns[decision.displaced], Reason.QUEUE_SHARE)
                ticket.queued = self._gate.standing(request.id)
                if ticket.watch is not None:
                    ticket.watch.offered(ticket, decision)
                await self._turn(ticket, ticket.queued, patience, on_queued)
            else:
                ticket.admitted = self._gate.standing(request.id)
                if ticket.watch is not None:
                    ticket.watch.offered(ticket, decision)
            yield ticket
        finally:
            if ticket.admitted is None and ticket.watch is not None:
                ticket.gave_up = self._last_standing(request.id)
            now = self._clock()
            self._wake(self._gate.leave(request.id, now=now, output_tokens=ticket.output_tokens))

    def predicted(self, ticket: Ticket, prediction: Prediction) -> None:
        """A prediction has arrived; the request takes its new place in the queue."""
        request_id = ticket.request.id
        self._wake(self._gate.update(request_id, prediction=prediction, now=self._clock()))
        if ticket.watch is not None and (standing := self._standing(request_id)) is not None:
            ticket.watch.moved(standing, prediction)
        if ticket.foresee and (place := self.place(request_id)) is not None:
            self._foresee(ticket, place)

    def generated(self, request_id: RequestId, tokens: int) -> None:
        """A running request has produced so many tokens."""
        self._wake(self._gate.update(request_id, generated=tokens, now=self._clock()))

    def resize(self, limit_slots: int) -> None:
        """Change how many slots may be in flight."""
        self._wake(self._gate.resize(limit_slots, now=self._clock()))

    def set_policy(self, policy: OrderingPolicy) -> None:
        """Order the queue anew."""
        another = policy != self._gate.policy
        self._wake(self._gate.set_policy(policy, now=self._clock()))
        if another:
            for request_id, watch in itertools.islice(self._watches.items(), TOLD_OF_POLICY):
                if (standing := self._standing(request_id)) is not None:
                    watch.moved(standing)

    def set_bounds(self, *, max_queued: int, max_queued_tokens: float | None) -> None:
        """Change how many requests and predicted tokens may wait."""
        self._gate.set_bounds(max_queued=max_queued, max_queued_tokens=max_queued_tokens)

    def set_classes(self, *, caps: Mapping[int, int], promote_after_s: float | None) -> None:
        """Change how many slots each priority may hold, and who has waited too long."""
        self._wake(
            self._gate.set_classes(caps=caps, promote_after_s=promote_after_s, now=self._clock())
        )

    def place(self, request_id: RequestId) -> Place | None:
        """Where a request stands that waits; None: it does not wait. O(places before it)."""
        standing = self._standing(request_id)
        return None if standing is None else self._place(request_id, standing, wanted=True)

    def close(self) -> None:
        """Refuse new requests; what waits and runs goes on."""
        self._gate.close()

    def reopen(self) -> None:
        """Take new requests again."""
        self._gate.reopen()

    def retry_after_s(self) -> float:
        """Seconds after which a rejected request has a chance, from predicted remaining work."""
        return self._gate.retry_after_s(now=self._clock())

    def backlog_s(self) -> float:
        """Predicted seconds of work in queue and in flight, per slot."""
        return self._gate.backlog_s(now=self._clock())

    def longest_wait_s(self) -> float:
        """How long the one has waited that came first of those that wait; 0: nobody waits."""
        first = next(iter(self._since.values()), None)
        return 0.0 if first is None else max(0.0, self._clock() - first)

    async def _turn(
        self, ticket: Ticket, standing: Standing, patience: Patience, on_queued: OnQueued | None
    ) -> None:
        loop = asyncio.get_running_loop()
        # An eviction is a result too: an exception could be left unretrieved by a cancelled owner.
        turn: asyncio.Future[Standing | Reason] = loop.create_future()
        request = ticket.request
        place = self._place(request.id, standing, wanted=ticket.foresee or on_queued is not None)
        self._foresee(ticket, place)
        self._turns[request.id] = turn
        if ticket.watch is not None:
            self._watches[request.id] = ticket.watch
        self._since[request.id] = request.arrived_at
        timer = loop.call_later(max(patience.wait_s, 0.0), _end, turn, patience.reason)
        try:
            if on_queued is not None:
                await on_queued(place)
            verdict = await turn
        finally:
            timer.cancel()
            self._watches.pop(request.id, None)
            del self._turns[request.id], self._since[request.id]
            ticket.wait_s = self._clock() - request.arrived_at
        if isinstance(verdict, Reason):
            again_s = self.retry_after_s() if verdict is Reason.QUEUE_SHARE else None
            raise RequestEvicted(verdict, _EVICTED[verdict], retry_after_s=again_s)
        ticket.admitted = verdict

    def _standing(self, request_id: RequestId) -> Standing | None:
        """Of a request that waits, and will do so a moment later."""
        turn = self._turns.get(request_id)
        return None if turn is None or turn.done() else self._gate.standing(request_id)

    def _last_standing(self, request_id: RequestId) -> Standing | None:
        """Of one that leaves the queue; None: its place was given away before."""
        try:
            return self._gate.standing(request_id)
        except KeyError:
            return None

    def _wake(self, admitted: Iterable[RequestId]) -> None:
        for request_id in admitted:
            turn = self._turns.get(request_id)
            # Without a turn its owner is just leaving: its `leave` hands the slot on.
            if turn is not None and not turn.done():
                # Asked now: a moment later others have moved and the standing would be another.
                turn.set_result(self._gate.standing(request_id))

    def _place(self, request_id: RequestId, standing: Standing, *, wanted: bool) -> Place:
        if not wanted or standing.position >= FORESEEN_PLACES:
            return Place(standing, None)
        return Place(standing, self._gate.predicted_wait_s(request_id, now=self._clock()))

    def _foresee(self, ticket: Ticket, place: Place) -> None:
        if place.predicted_wait_s is not None:
            waited_s = self._clock() - ticket.request.arrived_at
            ticket.predicted_wait_s = waited_s + place.predicted_wait_s

    def _rejection(self, request: Request, decision: Rejected) -> RequestRejected:
        reason = decision.reason
        retry_after_s = None if reason is Reason.TOO_LARGE else self.retry_after_s()
        text = _REJECTED[reason]
        if decision.estimate_s is not None and request.deadline_at is not None:
            left_s = request.deadline_at - self._clock()
            text = text.format(estimate_s=decision.estimate_s, left_s=left_s)
        return RequestRejected(reason, text, retry_after_s=retry_after_s)


def _end(turn: asyncio.Future[Standing | Reason], reason: Reason) -> None:
    if not turn.done():  # else its turn came in the same tick
        turn.set_result(reason)
