"""Which service to look at next: each at most once at a time, retried with growing pauses.

Knows nothing of Kubernetes. Events only say *that* something changed, so many of them for one key
while it waits are one look; and a key that is asked for without end is looked at in bursts, then
at a pace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_log = logging.getLogger(__name__)

Key = TypeVar("Key")


class Figures(Protocol):
    """Who counts what the queue does."""

    def waited(self, seconds: float) -> None:
        """A key has come to its look after so long."""
        ...

    def retried(self) -> None:
        """A look is taken because the last one failed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds, but for `burst`: looks at one key without a pause between them.

    A key that has used up its burst gets a look every `every_s`: somebody who undoes each of our
    writes is answered that often, not as fast as the network allows.

    After a look that took longer than `slow_s` the worker rests as long, `rest_longest_s` at most:
    a busy API server is asked less, and each look gets its answers sooner.
    """

    retry_first_s: float
    retry_longest_s: float
    look_longest_s: float
    burst: int
    every_s: float
    slow_s: float
    rest_longest_s: float


@dataclass(slots=True)
class _Account:
    """What one key has used: looks in its burst as of a time, and failures in a row."""

    used: float = 0.0
    at_s: float = 0.0
    failures: int = 0


class WorkQueue(Generic[Key]):
    """Keys to be handled by `handle`, which returns seconds to the next look, None for never.

    It may raise anything; what is not one of `expected` is logged with its traceback.
    """

    def __init__(
        self,
        handle: Callable[[Key], Awaitable[float | None]],
        *,
        pace: Pace,
        figures: Figures,
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        self._handle = handle
        self._expected = expected
        self._pace = pace
        self._figures = figures
        self._waiting: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: dict[Key, float] = {}  # since when
        self._running: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._accounts: dict[Key, _Account] = {}

    @property
    def depth(self) -> int:
        """Keys that wait or are being handled."""
        return len(self._queued.keys() | self._running)

    def add(self, key: Key) -> None:
        """Look at `key` as soon as a worker is free; a pending later look is dropped."""
        if key in self._queued:
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._queued[key] = loop.time()
        # While it is being handled it waits in the set alone: the worker queues it afterwards.
        if key not in self._running:
            self._enqueue(key)

    def add_after(self, key: Key, delay_s: float) -> None:
        """Look at `key` after `delay_s`, unless something asks for it earlier."""
        if key in self._queued or key in self._timers:
            return
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(delay_s, self.add, key)

    async def work(self) -> None:
        """Handle keys until cancelled; run several of these side by side."""
        loop = asyncio.get_running_loop()
        while True:
            key = await self._waiting.get()
            self._figures.waited(loop.time() - self._queued.pop(key))
            self._running.add(key)
            started_s = loop.time()
            try:
                again_s = await self._look(key)
            finally:
                self._running.discard(key)
            took_s = loop.time() - started_s
            if key in self._queued:
                self._enqueue(key)
            elif again_s is not None:
                self.add_after(key, again_s)
            else:
                self._accounts.pop(key, None)
            if took_s > self._pace.slow_s:
                await asyncio.sleep(min(took_s, self._pace.rest_longest_s))

    def _enqueue(self, key: Key) -> None:
        """Now, or when the key's pace allows another look."""
        loop = asyncio.get_running_loop()
        account = self._accounts.setdefault(key, _Account())
        regained = (loop.time() - account.at_s) / self._pace.every_s
        account.used = max(0.0, account.used - regained) + 1.0
        account.at_s = loop.time()
        over = account.used - self._pace.burst
        if over <= 0:
            self._waiting.put_nowait(key)
        else:
            loop.call_later(over * self._pace.every_s, self._put, key)

    def _put(self, key: Key) -> None:
        self._queued[key] = asyncio.get_running_loop().time()  # its pace is not the queue's wait
        self._waiting.put_nowait(key)

    async def _look(self, key: Key) -> float | None:
        account = self._accounts.setdefault(key, _Account())
        if account.failures:
            self._figures.retried()
        try:
            async with asyncio.timeout(self._pace.look_longest_s):
                again_s = await self._handle(key)
        except Exception as error:  # one service's trouble must not stop the others
            return self._pause_after(error, key, account)
        account.failures = 0
        return again_s

    def _pause_after(self, error: Exception, key: Key, account: _Account) -> float:
        doubled = self._pace.retry_first_s * 2 ** min(account.failures, 16)
        account.failures += 1
        pause_s = min(self._pace.retry_longest_s, doubled)
        _log.error(
            "%s could not be looked at; next try in %.1f s: %s",
            key,
            pause_s,
            str(error) or type(error).__name__,
            exc_info=None if isinstance(error, self._expected) else error,
            extra={"about": key, "reason": type(error).__name__},
        )
        return pause_s
