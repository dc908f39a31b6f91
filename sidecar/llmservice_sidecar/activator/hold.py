"""Requests that wait for a replica of their service. Knows asyncio; neither HTTP nor gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final

from llmservice_api.activation import Activation, Replica

from llmservice_sidecar.core.errors import (
    LLMServiceError,
    Reason,
    RequestEvicted,
    RequestRejected,
)

CONNECT_TIMEOUT_S: Final = 5.0  # to a replica; all that wait wait for it
_MIB: Final = 1024 * 1024
_UNKNOWN_WAKE_S: Final = 30.0  # before a service has been seen to wake


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLimits:
    """What one activator holds at most; times in seconds.

    `max_held` is for each service, `max_bytes` for all together: bodies, and `overhead_bytes` for
    each request. A replica that failed is not asked again for `rest_s`.
    """

    max_held: int = 1000
    hold_s: float = 600.0
    max_bytes: int = 256 * _MIB
    overhead_bytes: int = 32 * 1024
    rest_s: float = 0.5


class ReplicaFailed(Exception):
    """The replica did not take the request or broke before it answered; nobody was answered."""


class Memory:
    """The bytes of all requests in the activator's hands."""

    def __init__(self, limits: HoldLimits) -> None:
        self._limits = limits
        self.used = 0

    def fits(self, size: int) -> bool:
        """Whether so many bytes more may be taken."""
        return self.used + size <= self._limits.max_bytes

    @contextlib.contextmanager
    def place(self, retry_after_s: Callable[[], float]) -> Generator[Place]:
        """A place for one request, given back at the block's end. Raises RequestRejected."""
        place = Place(self, retry_after_s)
        place.grow(self._limits.overhead_bytes)
        try:
            yield place
        finally:
            place.free()


class Place:
    """What one request has taken of the memory."""

    def __init__(self, memory: Memory, retry_after_s: Callable[[], float]) -> None:
        self._memory = memory
        self._retry_after_s = retry_after_s
        self._size = 0

    def grow(self, size: int) -> None:
        """Take more. Raises RequestRejected when there is none."""
        if not self._memory.fits(size):
            raise RequestRejected(
                Reason.QUEUE_FULL,
                "the requests that wait for sleeping services fill the activator's memory",
                retry_after_s=self._retry_after_s(),
            )
        self._memory.used += size
        self._size += size

    def free(self) -> None:
        """Give all back; twice is once."""
        self._memory.used -= self._size
        self._size = 0


@dataclass(slots=True)
class Ticket:
    """One request's claim to a replica: its rank by arrival, and until when it may wait.

    `deadline` is a time of the loop's clock. `held`: it had to wait because nobody was ready.
    """

    number: int
    arrived_at: float
    deadline: float
    by_client: bool
    held: bool = False

    def left_s(self) -> float:
        """Seconds until the deadline, at least one millisecond."""
        return max(0.001, self.deadline - asyncio.get_running_loop().time())


class Turn:
    """A request's time with a replica. `written`: the next request may be sent."""

    def __init__(self, replica: Replica, written: Callable[[], None]) -> None:
        self.replica: Final = replica
        self._written = written
        self._is_written = False

    def written(self) -> None:
        """The request is on its way; twice is once."""
        if not self._is_written:
            self._is_written = True
            self._written()


class Target:
    """One service: who is ready, and who waits for that."""

    def __init__(self, key: str, limits: HoldLimits) -> None:
        self.key: Final = key
        self.models: tuple[str, ...] = ()
        self._limits = limits
        self._replicas: tuple[Replica, ...] = ()
        self._resting: set[Replica] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._active: Counter[Replica] = Counter()
        self._last_turn: dict[Replica, int] = {}
        self._turns = itertools.count()
        self._writing = asyncio.Lock()  # fair: in order of arrival
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count()
        self._refusal: Callable[[], LLMServiceError] | None = None
        self._asleep_since: float | None = None
        self._woke_in_s = _UNKNOWN_WAKE_S

    @property
    def awake(self) -> bool:
        """A replica is ready."""
        return bool(self._replicas)

    @property
    def held(self) -> int:
        """Requests that wait now."""
        return len(self._waiters)

    @property
    def replicas(self) -> Sequence[Replica]:
        """Who is ready."""
        return self._replicas

    def update(self, activation: Activation) -> None:
        """Take what the operator says; wakes the waiting when somebody is ready."""
        self.models = activation.models
        self._replicas = activation.replicas
        self._resting &= set(activation.replicas)
        self._last_turn = {
            replica: last
            for replica, last in self._last_turn.items()
            if replica in activation.replicas
        }
        self._wake()

    def close(self, refusal: Callable[[], LLMServiceError]) -> None:
        """Refuse what waits and what comes."""
        self._refusal = refusal
        for timer in self._timers:
            timer.cancel()
        self._resting.clear()
        self._wake()

    def ticket(self, timeout_s: float | None) -> Ticket:
        """A request has come, with the client's own time limit if it has one."""
        now = asyncio.get_running_loop().time()
        by_client = timeout_s is not None and timeout_s <= self._limits.hold_s
        wait_s = timeout_s if timeout_s is not None and by_client else self._limits.hold_s
        return Ticket(next(self._numbers), now, now + wait_s, by_client)

    def check_room(self) -> None:
        """Raise RequestRejected when a request would have to wait and there is no room."""
        self._check_open()
        if not self._usable() and len(self._waiters) >= self._limits.max_held:
            raise RequestRejected(
                Reason.QUEUE_FULL,
                f"{len(self._waiters)} requests already wait for a replica of this service",
                retry_after_s=self.retry_after_s(),
            )

    @contextlib.asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncGenerator[Turn]:
        """A ready replica, as soon as there is one and all that came before have been sent.

        Raises RequestRejected when too many wait, RequestEvicted when the time is up.
        """
        turn = Turn(await self._next(ticket), self._writing.release)
        replica = turn.replica
        self._active[replica] += 1
        self._last_turn[replica] = next(self._turns)
        try:
            yield turn
        finally:
            turn.written()
            self._active[replica] -= 1
            if not self._active[replica]:
                del self._active[replica]

    def rest(self, replica: Replica, pause_s: float | None = None) -> None:
        """It did not take a request: ask others, or the same a little later."""
        if replica in self._resting or replica not in self._replicas:
            return
        self._resting.add(replica)
        loop = asyncio.get_running_loop()
        self._timers = {timer for timer in self._timers if timer.when() > loop.time()}
        pause_s = self._limits.rest_s if pause_s is None else pause_s
        self._timers.add(loop.call_later(pause_s, self._rested, replica))

    def retry_after_s(self) -> float:
        """When a replica is likely to be ready, by how long it took the last time."""
        if self._asleep_since is None:
            return self._woke_in_s
        waited_s = asyncio.get_running_loop().time() - self._asleep_since
        return max(1.0, self._woke_in_s - waited_s)

    async def _next(self, ticket: Ticket) -> Replica:
        """Returns holding the lock."""
        while True:
            self._check_open()
            if not self._usable():
                if not ticket.held:
                    self.check_room()
                    ticket.held = True
                await self._wait(ticket)
            await self._writing.acquire()
            if self._refusal is None and (usable := self._usable()):
                # The one with the fewest of our requests, then the one that waits for longest.
                return min(usable, key=lambda r: (self._active[r], self._last_turn.get(r, -1)))
            self._writing.release()

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise self._refusal()

    def _usable(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica not in self._resting]

    async def _wait(self, ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        if self._asleep_since is None:
            self._asleep_since = loop.time()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters[ticket.number] = waiter
        try:
            async with asyncio.timeout_at(ticket.deadline):
                await waiter
        except TimeoutError:
            raise self._too_late(ticket) from None
        finally:
            del self._waiters[ticket.number]

    def _too_late(self, ticket: Ticket) -> RequestEvicted:
        if ticket.by_client:
            text = "the deadline passed before a replica of this service was ready"
            return RequestEvicted(Reason.DEADLINE, text)
        text = f"no replica of this service was ready within {self._limits.hold_s:.0f} s"
        return RequestEvicted(Reason.QUEUE_TIMEOUT, text)

    def _rested(self, replica: Replica) -> None:
        self._resting.discard(replica)
        self._wake()

    def _wake(self) -> None:
        if not self._usable() and self._refusal is None:
            return
        if self._asleep_since is not None and self._replicas:
            self._woke_in_s = asyncio.get_running_loop().time() - self._asleep_since
            self._asleep_since = None
        # In order of arrival; who fails and waits again has kept its number.
        for number in sorted(self._waiters):
            if not self._waiters[number].done():
                self._waiters[number].set_result(None)
