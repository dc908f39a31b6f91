"""Following the operator: which services there are, on which ports, and who is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import msgspec
from llmservice_api.activation import Update, decode_update

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S: Final = 5.0
_SILENCE_S: Final = 30.0  # three beats of the operator
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_LONGEST_LINE: Final = 1024 * 1024
_BROKEN: Final = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError)


class Feed:
    """One connection to the operator, made anew for as long as the activator lives.

    Without it all goes on as it was last known. `take` gets every update, `begin` is called
    before the first of a connection.
    """

    def __init__(
        self, url: str, *, begin: Callable[[], None], take: Callable[[Update], Awaitable[None]]
    ) -> None:
        self._url = url
        self._begin = begin
        self._take = take
        self.connected = False

    async def follow(self) -> None:
        """Follow until cancelled."""
        pause_s = _FIRST_PAUSE_S
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_SILENCE_S
        )
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=_LONGEST_LINE) as session:
            while True:
                try:
                    await self._read(session)
                    why = "the operator closed the stream"
                except _BROKEN as error:
                    why = str(error) or type(error).__name__
                if self.connected:
                    pause_s = _FIRST_PAUSE_S
                self.connected = False
                _log.warning("%s: %s; trying again in %.1f s", self._url, why, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _read(self, session: aiohttp.ClientSession) -> None:
        async with session.get(self._url, allow_redirects=False) as response:
            response.raise_for_status()
            self._begin()
            self.connected = True
            async for line in response.content:
                try:
                    update = decode_update(line)
                except msgspec.DecodeError as error:
                    raise ValueError(f"a line that cannot be read: {error}") from error
                await self._take(update)
