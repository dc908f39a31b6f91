"""Leaving without losing a request: not ready at once, refusing a little later, then empty.

Whoever keeps a connection open would come back to this pod with every new request. So connections
have to end before requests are refused: what keeps them says how long that takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

ANNOUNCE_S: Final = 5.0  # how long endpoints may take to learn that this pod is leaving
_PARTING_SHARE: Final = 0.2  # the last part of it, in which connections part


class _State(Enum):
    SERVING = auto()
    ANNOUNCED = auto()  # not ready, still accepting
    PARTING = auto()  # still accepting, but on no connection for long
    REFUSING = auto()
    EMPTY = auto()


class Drain:
    """The drain state machine: serving, announced and parting (still accepting), refusing, empty.

    `in_use` says how many requests are in the sidecar's hands; `left` must be called when one has
    left. `close` and `reopen` act on the gate.
    """

    def __init__(
        self,
        *,
        in_use: Callable[[], int],
        close: Callable[[], None],
        reopen: Callable[[], None],
        announce_s: float = ANNOUNCE_S,
    ) -> None:
        self._in_use = in_use
        self._close = close
        self._reopen = reopen
        self._announce_s = announce_s
        self._state = _State.SERVING
        self._final = False
        self._run: asyncio.Task[bool] | None = None
        self._idle = asyncio.Event()
        self._watchers: list[Callable[[], None]] = []
        self._lingering_s: Callable[[], float] = lambda: 0.0

    @property
    def draining(self) -> bool:
        """Not ready and NOT_SERVING."""
        return self._state is not _State.SERVING

    @property
    def refusing(self) -> bool:
        """New requests are rejected with reason `draining`."""
        return self._state in {_State.REFUSING, _State.EMPTY}

    @property
    def parting(self) -> bool:
        """Connections should end when the answers on them have: other pods have taken over."""
        return self._state not in {_State.SERVING, _State.ANNOUNCED}

    def watch(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every change of `draining` or `parting`."""
        self._watchers.append(callback)

    def wait_for(self, lingering_s: Callable[[], float]) -> None:
        """Accept for so much longer; asked for when a drain begins."""
        self._lingering_s = lingering_s

    async def run(self, timeout_s: float) -> bool:
        """Drain, or join the drain under way. True: nothing is left here; False: time is up.

        True also when `cancel` has ended the drain: nobody needs to wait any longer.
        """
        if self._run is None:
            self._set(_State.ANNOUNCED)
            self._run = asyncio.create_task(self._drain(), name="drain")
        done, _ = await asyncio.wait({self._run}, timeout=timeout_s)
        if not done:
            self._enter_refusing()
        return bool(done)

    def make_final(self) -> None:
        """SIGTERM has come: from now on `cancel` has no effect."""
        self._final = True

    def cancel(self) -> None:
        """The engine came back and nobody ends this process: serve again."""
        if self._final or self._run is None:
            return
        self._run.cancel()
        self._run = None
        self._reopen()
        self._set(_State.SERVING)

    def left(self) -> None:
        """A request has left the sidecar."""
        if self._in_use() == 0:
            self._idle.set()

    async def _drain(self) -> bool:
        await asyncio.sleep(self._lingering_s() + self._announce_s * (1 - _PARTING_SHARE))
        self._set(_State.PARTING)
        await asyncio.sleep(self._announce_s * _PARTING_SHARE)
        self._enter_refusing()
        while self._in_use():
            self._idle.clear()
            await self._idle.wait()
        self._set(_State.EMPTY)
        return True

    def _enter_refusing(self) -> None:
        if self._state in {_State.ANNOUNCED, _State.PARTING}:
            self._close()
            self._set(_State.REFUSING)

    def _set(self, state: _State) -> None:
        before = (self.draining, self.parting)
        self._state = state
        if (self.draining, self.parting) != before:
            for watcher in self._watchers:
                watcher()
