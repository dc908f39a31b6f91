"""Ready = engine healthy and not draining; who asks is told when it changes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from llmservice_sidecar.runtime.drain import Drain
from llmservice_sidecar.runtime.ports import Engine

_log = logging.getLogger(__name__)

POLL_S: Final = 1.0
ROUND_TRIPS: Final = 16
_NEVER_ANSWERED = "the engine has not answered yet: it may still be loading its model"


class Readiness:
    """Joins engine health and drain to the one answer of /readyz and grpc.health.v1."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._healthy = False
        self._message = _NEVER_ANSWERED
        self._watchers: list[Callable[[bool], None]] = []
        self._told: bool | None = None
        self._round_trips_s: deque[float] = deque(maxlen=ROUND_TRIPS)
        drain.watch(self._tell)

    @property
    def ready(self) -> bool:
        """The engine is healthy and the sidecar is not draining. A full queue is still ready."""
        return self._healthy and not self._drain.draining

    @property
    def draining(self) -> bool:
        """The sidecar is leaving."""
        return self._drain.draining

    @property
    def engine_healthy(self) -> bool:
        """The engine's last answer was a healthy one."""
        return self._healthy

    @property
    def engine_message(self) -> str:
        """Why the engine is not healthy; empty if it is."""
        return self._message

    @property
    def engine_round_trip_s(self) -> float:
        """The way to the engine and back: the fastest of the last health checks; 0 before one."""
        return min(self._round_trips_s, default=0.0)

    def watch(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(ready)` at once and then whenever it changes."""
        self._watchers.append(callback)
        callback(self.ready)

    async def poll(
        self,
        engine: Engine,
        *,
        on_up: Callable[[], Awaitable[None]] | None = None,
        interval_s: float = POLL_S,
    ) -> None:
        """Ask the engine again and again, until cancelled. `on_up`: it has just become healthy."""
        clock = asyncio.get_running_loop().time
        while True:
            asked_at, before = clock(), self._healthy
            self.engine_is(healthy=await engine.healthy())
            if self._healthy:
                self._round_trips_s.append(clock() - asked_at)
                if on_up is not None and not before:
                    await on_up()
            await asyncio.sleep(interval_s)

    def engine_is(self, *, healthy: bool) -> None:
        """What the engine has answered. A healthy engine ends a drain that was for it alone."""
        if healthy is self._healthy:
            return
        self._healthy = healthy
        self._message = "" if healthy else "the engine does not answer its health check"
        _log.info("engine %s", "healthy" if healthy else "not healthy")
        if healthy:
            # preStop also runs when a liveness probe restarts the engine alone.
            self._drain.cancel()
        self._tell()

    def _tell(self) -> None:
        if self.ready is not self._told:
            self._told = self.ready
            for watcher in self._watchers:
                watcher(self.ready)
