"""The activator's composition root: every object of it is made here, and ended here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aiohttp import web
from llmservice_api import names
from llmservice_api.activation import ActivatorReport

from llmservice_sidecar.activator.desk import Desk
from llmservice_sidecar.activator.doors import Doors
from llmservice_sidecar.activator.feed import Feed
from llmservice_sidecar.activator.grpc_door import GrpcDoor
from llmservice_sidecar.activator.hold import HoldLimits
from llmservice_sidecar.activator.http_door import HttpDoor
from llmservice_sidecar.activator.metrics import ActivatorMetrics
from llmservice_sidecar.activator.ops import ops_app
from llmservice_sidecar.core.errors import LLMServiceError, Reason, RequestRejected
from llmservice_sidecar.runtime.ending import EndSignals

_log = logging.getLogger(__name__)

_LAST_WORDS_S: Final = 1.0  # for refusals to reach their clients


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivatorSettings:
    """What an activator is told at its start; times in seconds.

    `announce_s`: how long endpoints may take to learn that it is leaving.
    """

    operator_url: str
    host: str = "0.0.0.0"  # noqa: S104 - its own pod's address, which it cannot know
    ops_port: int = names.PORT_OPS
    limits: HoldLimits = field(default_factory=HoldLimits)
    drain_timeout_s: float = 600.0
    announce_s: float = 5.0


class Activator:
    """A whole activator. `running` is the time between listening and closed."""

    def __init__(self, settings: ActivatorSettings) -> None:
        self._settings = settings
        self._metrics = ActivatorMetrics()
        self._desk = Desk(settings.limits, self._metrics)
        self._http = HttpDoor(self._desk, host=settings.host)
        self._grpc = GrpcDoor(self._desk, host=settings.host)
        self.doors: Final = Doors(
            self._desk, http=self._http, grpc=self._grpc, metrics=self._metrics
        )
        self._feed = Feed(
            settings.operator_url + names.PATH_ACTIVATIONS,
            begin=self.doors.begin,
            take=self.doors.take,
        )
        self._ops = web.AppRunner(ops_app(self.report, self._metrics.render), access_log=None)
        self._metrics.watch(self.report)

    def report(self) -> ActivatorReport:
        """How many requests wait, for the operator and for people."""
        return self._desk.report(synced=self.doors.synced)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[int]:
        """Listen and follow the operator for the length of the block; yields the ops port."""
        async with contextlib.AsyncExitStack() as stack:
            await self._http.start()
            stack.push_async_callback(self._http.close)
            stack.push_async_callback(self._grpc.close, _LAST_WORDS_S)
            await self._ops.setup()
            stack.push_async_callback(self._ops.cleanup)
            await web.TCPSite(self._ops, self._settings.host, self._settings.ops_port).start()
            following = asyncio.create_task(self._feed.follow(), name="feed")
            following.add_done_callback(_end_if_it_failed)
            stack.push_async_callback(_cancelled, following)
            yield self._ops.addresses[0][1]

    async def leave(self) -> None:
        """Not ready at once; what is held may still find its replica, then it is refused."""
        self._desk.draining = True
        await asyncio.sleep(self._settings.announce_s)
        try:
            async with asyncio.timeout(self._settings.drain_timeout_s):
                await self._desk.idle()
        except TimeoutError:
            held = sum(self.report().held.values())
            _log.warning("%d requests still wait after the drain: they are refused", held)
        self._desk.refuse_all(_leaving)


async def run(settings: ActivatorSettings) -> None:
    """Serve until SIGTERM (drains) or SIGINT (at once). Raises OSError for a taken port."""
    activator = Activator(settings)
    signals = EndSignals()
    async with activator.running() as ops_port:
        sys.stdout.write(msgspec.json.encode({"ops_port": ops_port}).decode() + "\n")
        sys.stdout.flush()
        _log.info("following %s", settings.operator_url)
        await signals.until_left(activator.leave)
        _log.info("closing")


def _leaving() -> LLMServiceError:
    text = "this activator is leaving; another takes the request"
    return RequestRejected(Reason.DRAINING, text, retry_after_s=1.0)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _end_if_it_failed(task: asyncio.Task[None]) -> None:
    """It never ends by itself: an activator without it would be deaf."""
    if not task.cancelled() and (error := task.exception()):
        _log.critical("the activator cannot go on and ends", exc_info=error)
        signal.raise_signal(signal.SIGTERM)
