"""Which service to look at next: each at most once at a time, retried with growing pauses.

Knows nothing of Kubernetes. Events only say *that* something changed, so many of them for one key
while it waits are one look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

Key = TypeVar("Key")


class WorkQueue(Generic[Key]):
    """Keys to be handled by `handle`, which returns seconds to the next look, None for never."""

    def __init__(
        self,
        handle: Callable[[Key], Awaitable[float | None]],
        *,
        retry_first_s: float,
        retry_longest_s: float,
    ) -> None:
        self._handle = handle
        self._retry_first_s = retry_first_s
        self._retry_longest_s = retry_longest_s
        self._waiting: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._running: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    @property
    def depth(self) -> int:
        """Keys that wait or are being handled."""
        return len(self._queued | self._running)

    def add(self, key: Key) -> None:
        """Look at `key` as soon as a worker is free; a pending later look is dropped."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._queued:
            return
        self._queued.add(key)
        # While it is being handled it waits in the set alone: the worker queues it afterwards.
        if key not in self._running:
            self._waiting.put_nowait(key)

    def add_after(self, key: Key, delay_s: float) -> None:
        """Look at `key` after `delay_s`, unless something asks for it earlier."""
        if key in self._queued or key in self._timers:
            return
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(delay_s, self.add, key)

    async def work(self) -> None:
        """Handle keys until cancelled; run several of these side by side."""
        while True:
            key = await self._waiting.get()
            self._queued.discard(key)
            self._running.add(key)
            try:
                again_s = await self._look(key)
            finally:
                self._running.discard(key)
            if key in self._queued:
                self._waiting.put_nowait(key)
            elif again_s is not None:
                self.add_after(key, again_s)

    async def _look(self, key: Key) -> float | None:
        try:
            again_s = await self._handle(key)
        except Exception:  # one service's trouble must not stop the others
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            pause_s = min(self._retry_longest_s, self._retry_first_s * 2 ** min(failures, 16))
            _log.exception("%s could not be reconciled; next try in %.1f s", key, pause_s)
            return pause_s
        self._failures.pop(key, None)
        return again_s
