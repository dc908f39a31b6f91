"""All that the operator does for services that sleep at zero replicas, made together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import aiohttp
from aiohttp import web
from llmservice_api import names

from llmservice_operator.activation import Activations, Slices
from llmservice_operator.activation_feed import activation_routes
from llmservice_operator.activator_ports import PortBook
from llmservice_operator.activators import Activators, Pods
from llmservice_operator.cluster import ServiceKey
from llmservice_operator.polling import http_fetch
from llmservice_operator.settings import OperatorSettings


class ApiServer(Slices, Pods, Protocol):
    """What is asked of it; raises ClusterError."""


class Waking:
    """The activator's pods, the services that it stands in for, and what it is told."""

    def __init__(
        self,
        api: ApiServer,
        session: aiohttp.ClientSession,
        *,
        settings: OperatorSettings,
        look_at: Callable[[ServiceKey], None],
    ) -> None:
        self._namespaces = settings.namespaces
        self._look_at = look_at
        self._activators = Activators(
            api,
            http_fetch(session, port=names.PORT_OPS),
            namespace=settings.activator_namespace,
            selector=settings.activator_selector,
            changed=self._activators_changed,
            clock=time.monotonic,
        )
        self.activations: Final = Activations(
            api,
            addresses=lambda: self._activators.addresses,
            look_in=self._look_in,
            ports=PortBook(time.monotonic),
            now=lambda: datetime.now(UTC),
        )

    @property
    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """What activators ask."""
        return activation_routes(self.activations.feed)

    def held(self, key: ServiceKey) -> int:
        """Requests that wait for that service."""
        return self._activators.held(key)

    async def follow(self) -> None:
        """Follow and ask the activator's pods until cancelled."""
        await asyncio.gather(self._activators.follow(), self._activators.ask())

    async def load(self) -> None:
        """Begin to write: read what a predecessor has left."""
        await self.activations.load(self._namespaces)

    def _look_in(self, after_s: float, key: ServiceKey) -> None:
        if after_s > 0:
            asyncio.get_running_loop().call_later(after_s, self._look_at, key)
        else:
            self._look_at(key)

    def _activators_changed(self) -> None:
        self.activations.activators_changed()
