"""How a program of ours ends: SIGTERM lets it leave in its own time, SIGINT ends it at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class EndSignals:
    """The signals of this process, from when it is made; in the loop that runs."""

    def __init__(self) -> None:
        self._come: asyncio.Queue[signal.Signals] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._come.put_nowait, number)

    async def until_left(self, leave: Callable[[], Awaitable[None]]) -> None:
        """Wait for the end; after SIGTERM also for `leave`, unless a second signal comes."""
        if await self._come.get() is not signal.SIGTERM:
            return
        leaving = asyncio.ensure_future(leave())
        again = asyncio.create_task(self._come.get())
        await asyncio.wait({leaving, again}, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        leaving.cancel()
