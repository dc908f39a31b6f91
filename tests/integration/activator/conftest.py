"""An activator in the test's own process, with an operator that a test speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from fakes.operator_feed import OperatorFeed
from llmservice_sidecar.activator.app import Activator, ActivatorSettings
from llmservice_sidecar.activator.hold import HoldLimits

KEY = "team/chat"
CHAT = "/v1/chat/completions"


@dataclass
class Bench:
    """What a test works with."""

    activator: Activator
    operator: OperatorFeed
    session: aiohttp.ClientSession
    ops_port: int

    @property
    def http(self) -> str:
        """Base address of the service's HTTP door."""
        return f"http://127.0.0.1:{self.activator.doors.ports(KEY)[0]}"

    @property
    def grpc(self) -> str:
        """Target of the service's gRPC door."""
        return f"127.0.0.1:{self.activator.doors.ports(KEY)[1]}"

    @property
    def ops(self) -> str:
        """Base address of probes, metrics and status."""
        return f"http://127.0.0.1:{self.ops_port}"

    def held(self) -> int:
        """Requests that wait for the service."""
        return self.activator.report().held.get(KEY, 0)


async def until(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Other processes' and sockets' news come without a callback that a test could wait for."""

    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


@asynccontextmanager
async def bench(
    limits: HoldLimits | None = None, *, drain_timeout_s: float = 5.0
) -> AsyncGenerator[Bench]:
    """A synced activator that knows one service, asleep."""
    operator = OperatorFeed()
    operator.tell()
    async with operator.serving():
        settings = ActivatorSettings(
            operator_url=operator.url,
            host="127.0.0.1",
            ops_port=0,
            limits=limits or HoldLimits(rest_s=0.05),
            drain_timeout_s=drain_timeout_s,
            announce_s=0.0,
        )
        activator = Activator(settings)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            activator.running() as ops_port,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            await until(lambda: activator.report().synced)
            yield Bench(activator, operator, session, ops_port)


@pytest.fixture
async def asleep() -> AsyncGenerator[Bench]:
    """The usual limits."""
    async with bench() as made:
        yield made
