"""The running operator: queue, workers, poller and cluster connection, made and ended together."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import aiohttp

from llmservice_operator.cluster import ServiceKey
from llmservice_operator.kubernetes_cluster import connected
from llmservice_operator.polling import Poller, http_fetch
from llmservice_operator.reconcile import Reconciler
from llmservice_operator.settings import OperatorSettings
from llmservice_operator.work_queue import WorkQueue

_log = logging.getLogger(__name__)


class OperatorProcess:
    """One operator. Exactly one may run for a namespace: two would write over each other."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._queue: WorkQueue[ServiceKey] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = AsyncExitStack()

    @property
    def depth(self) -> int:
        """Services that wait to be looked at."""
        return self._queue.depth if self._queue else 0

    def look_at(self, key: ServiceKey) -> None:
        """Something about this service may have changed."""
        if self._queue is not None:
            self._queue.add(key)

    async def start(self) -> None:
        """Connect and begin to work."""
        settings = self._settings
        cluster = await self._resources.enter_async_context(connected())
        session = await self._resources.enter_async_context(aiohttp.ClientSession())
        poller = Poller(
            http_fetch(session, port=settings.ops_port), changed=self.look_at, settings=settings
        )
        reconciler = Reconciler(
            cluster, poller=poller, settings=settings, now=lambda: datetime.now(UTC)
        )
        queue = WorkQueue(
            reconciler.reconcile,
            retry_first_s=settings.retry_first_s,
            retry_longest_s=settings.retry_longest_s,
        )
        self._queue = queue
        self._tasks = [asyncio.create_task(queue.work()) for _ in range(settings.workers)]
        self._tasks.append(asyncio.create_task(poller.run()))
        for task in self._tasks:
            task.add_done_callback(_stop_if_it_failed)

    async def stop(self) -> None:
        """End the work and close connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._resources.aclose()


def _stop_if_it_failed(task: asyncio.Task[None]) -> None:
    """These tasks never end by themselves: an operator without one of them would be deaf."""
    if not task.cancelled() and (error := task.exception()):
        _log.critical("the operator cannot go on and ends", exc_info=error)
        signal.raise_signal(signal.SIGTERM)
