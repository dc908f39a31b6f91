"""The operator's `/activations` at the seam to the activator: a test says what it tells."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web
from llmservice_api.activation import Activation, Removed, Replica
from llmservice_operator.activation_feed import Feed, activation_routes
from llmservice_operator.cluster import ServiceKey


class OperatorFeed:
    """The operator's own stream, fed by hand. `url` is there while it is `serving`."""

    def __init__(self, *, complete: bool = True) -> None:
        self.known: dict[ServiceKey, Activation] = {}
        self._complete = complete
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._feed = self._new_feed()

    @property
    def url(self) -> str:
        """Where the activator asks."""
        return f"http://127.0.0.1:{self._port}"

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[OperatorFeed]:
        """Listen for the length of the block."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        """Listen, after a stop on the same port."""
        self._feed = self._new_feed()
        app = web.Application()
        app.add_routes(activation_routes(self._feed))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End, as in an upgrade of the operator."""
        if self._runner is not None:
            await self._runner.cleanup()

    def tell(
        self, name: str = "chat", *replicas: Replica, http_port: int = 0, grpc_port: int = 0
    ) -> None:
        """A service with these ready replicas; port 0 lets the system choose."""
        key = ServiceKey("team", name)
        self.known[key] = Activation(
            namespace="team",
            name=name,
            http_port=http_port,
            grpc_port=grpc_port,
            models=("tiny", "tiny-sql"),
            replicas=replicas,
        )
        self._feed.tell(key, self.known[key])

    def remove(self, name: str = "chat") -> None:
        """A service that does not sleep any more."""
        key = ServiceKey("team", name)
        del self.known[key]
        self._feed.tell(key, Removed(namespace="team", name=name))

    def forget_all(self) -> None:
        """As a new operator: it has seen no service yet, and will say when it has seen all."""
        self.known.clear()
        self._complete = False

    def complete(self) -> None:
        """The operator has seen every service."""
        self._feed.complete()

    def _new_feed(self) -> Feed:
        feed = Feed(self.known)
        if self._complete:
            feed.complete()
        return feed
