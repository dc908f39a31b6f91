"""Telling activators about services, as lines of JSON on a connection that stays open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Final

import msgspec
from aiohttp import web
from llmservice_api import names
from llmservice_api.activation import Activation, Beat, Removed, Synced, Update

from llmservice_operator.cluster import ServiceKey

_log = logging.getLogger(__name__)

BEAT_S: Final = 10.0
_BATCH: Final = 200  # lines in one write


class _Listener:
    """One activator: what it has not been told of yet. At most one line for each service."""

    def __init__(self, known: Mapping[ServiceKey, Activation], beat_s: float) -> None:
        self._beat_s = beat_s
        self._untold: dict[ServiceKey, Activation | Removed] = dict(known)
        self._synced = False
        self._news = asyncio.Event()

    def tell(self, key: ServiceKey, update: Activation | Removed) -> None:
        self._untold[key] = update
        self._news.set()

    def complete(self) -> None:
        self._synced = True
        self._news.set()

    async def updates(self) -> AsyncGenerator[list[Update]]:
        """What there is to tell, as it comes; a beat where nothing does."""
        told_synced = False
        while True:
            self._news.clear()
            while self._untold:
                batch = list(self._untold)[:_BATCH]
                yield [self._untold.pop(key) for key in batch]
            if self._synced and not told_synced:
                told_synced = True
                yield [Synced()]
            try:
                async with asyncio.timeout(self._beat_s):
                    await self._news.wait()
            except TimeoutError:
                yield [Beat()]


class Feed:
    """Every connected activator. `known` is what there is to tell to a new one."""

    def __init__(self, known: Mapping[ServiceKey, Activation], *, beat_s: float = BEAT_S) -> None:
        self._known = known
        self._beat_s = beat_s
        self._complete = False
        self._listeners: set[_Listener] = set()

    def tell(self, key: ServiceKey, update: Activation | Removed) -> None:
        """A service has changed."""
        for listener in self._listeners:
            listener.tell(key, update)

    def complete(self) -> None:
        """From now on every service is known: what an activator is not told of is gone."""
        if not self._complete:
            self._complete = True
            for listener in self._listeners:
                listener.complete()

    async def updates(self) -> AsyncGenerator[list[Update]]:
        """Everything that is known, then every change."""
        listener = _Listener(self._known, self._beat_s)
        if self._complete:
            listener.complete()
        self._listeners.add(listener)
        try:
            async for updates in listener.updates():
                yield updates
        finally:
            self._listeners.discard(listener)


def activation_routes(feed: Feed) -> list[web.AbstractRouteDef]:
    """`GET /activations`: a stream of lines of JSON that ends with the connection."""

    async def activations(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        updates = feed.updates()
        try:
            async for batch in updates:
                lines = b"".join(msgspec.json.encode(update) + b"\n" for update in batch)
                await response.write(lines)
        except ConnectionResetError:
            _log.info("an activator has closed its connection: %s", request.remote)
        finally:
            await updates.aclose()
        return response

    return [web.get(names.PATH_ACTIVATIONS, activations)]
