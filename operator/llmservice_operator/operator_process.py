"""The running operator: queue, workers, poller and cluster connection, made and ended together."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import aiohttp
from llmservice_api import names

from llmservice_operator.backlog import Backlogs
from llmservice_operator.cluster import ClusterError, ServiceKey
from llmservice_operator.http_server import backlog_routes, serving
from llmservice_operator.kubernetes_cluster import KubernetesCluster, connected
from llmservice_operator.polling import Poller, http_fetch
from llmservice_operator.reconcile import Reconciler
from llmservice_operator.settings import OperatorSettings
from llmservice_operator.snapshots import LARGEST_BYTES, SnapshotKeeper
from llmservice_operator.work_queue import WorkQueue

_log = logging.getLogger(__name__)
_TIMEOUT = aiohttp.ClientTimeout(total=10.0)  # of one answer of a sidecar


class OperatorProcess:
    """One operator. Exactly one may run for a namespace: two would write over each other."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._queue: WorkQueue[ServiceKey] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._definitions = asyncio.Event()
        self._resources = AsyncExitStack()

    @property
    def depth(self) -> int:
        """Services that wait to be looked at."""
        return self._queue.depth if self._queue else 0

    def look_at(self, key: ServiceKey) -> None:
        """Something about this service may have changed."""
        if self._queue is not None:
            self._queue.add(key)

    def definitions_changed(self) -> None:
        """An optional kind may have come or gone."""
        self._definitions.set()

    async def start(self) -> None:
        """Connect and begin to work.

        Raises ClusterError when no cluster is configured, OSError when its port is taken.
        """
        settings = self._settings
        cluster = await self._resources.enter_async_context(connected())
        await _until_served(cluster, every_s=settings.settling_recheck_s)
        session = await self._resources.enter_async_context(aiohttp.ClientSession(timeout=_TIMEOUT))
        poller = Poller(
            http_fetch(session, port=settings.ops_port), changed=self.look_at, settings=settings
        )
        fetch = http_fetch(
            session,
            port=settings.ops_port,
            path=names.PATH_SNAPSHOT,
            largest_bytes=LARGEST_BYTES,
        )
        snapshots = SnapshotKeeper(cluster, fetch, settings=settings, clock=time.monotonic)
        backlogs = Backlogs(ask=poller.ask, answers=poller.answers, now=_now, clock=time.monotonic)
        if settings.http_port is not None:
            routes = [*backlog_routes(backlogs)]
            await self._resources.enter_async_context(serving(routes, port=settings.http_port))
        reconciler = Reconciler(
            cluster,
            poller=poller,
            keepers=(snapshots, backlogs),
            settings=settings,
            now=_now,
        )
        queue = WorkQueue(
            reconciler.reconcile,
            retry_first_s=settings.retry_first_s,
            retry_longest_s=settings.retry_longest_s,
        )
        self._queue = queue
        self._tasks = [asyncio.create_task(queue.work()) for _ in range(settings.workers)]
        self._tasks.append(asyncio.create_task(poller.run()))
        self._tasks.append(asyncio.create_task(self._resync(cluster)))
        for task in self._tasks:
            task.add_done_callback(_stop_if_it_failed)

    async def stop(self) -> None:
        """End the work and close connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._resources.aclose()

    async def _resync(self, cluster: KubernetesCluster) -> None:
        """Look at every service now and then: a watch may be open, healthy and silent.

        At once when a kind that a service can own has come or gone.
        """
        loop = asyncio.get_running_loop()
        next_s = loop.time() + self._settings.resync_every_s
        while True:
            await self._definitions_or(next_s)
            if not await _rediscovered(cluster) and loop.time() < next_s:
                continue
            next_s = loop.time() + self._settings.resync_every_s
            for namespace in self._settings.namespaces or ("",):
                try:
                    keys = await cluster.list_services(namespace)
                except ClusterError as error:
                    _log.warning("services could not be listed: %s", error)
                    continue
                for key in keys:
                    self.look_at(key)

    async def _definitions_or(self, deadline_s: float) -> None:
        """Wait until a definition has changed, at most until that time of the loop's clock."""
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._definitions.wait()
        except TimeoutError:
            return
        # A definition comes with several events, and is served a moment later.
        await asyncio.sleep(self._settings.definitions_settle_s)
        self._definitions.clear()


async def _rediscovered(cluster: KubernetesCluster) -> bool:
    """Whether other optional kinds are served than before, as far as it can be known."""
    try:
        return await cluster.discover()
    except ClusterError as error:
        _log.warning("it is not known which optional kinds are served: %s", error)
        return False


def _now() -> datetime:
    return datetime.now(UTC)


async def _until_served(cluster: KubernetesCluster, *, every_s: float) -> None:
    """Wait for the CRD: bound to namespaces, kopf looks for it once and never again."""
    while True:
        try:
            if await cluster.served():
                await cluster.discover()
                return
            _log.warning(
                "%s is not served: install the CRD (kubectl apply -f crds/llmservice.yaml)",
                names.API_VERSION,
            )
        except ClusterError as error:
            _log.warning("the API server cannot be asked: %s", error)
        await asyncio.sleep(every_s)


def _stop_if_it_failed(task: asyncio.Task[None]) -> None:
    """These tasks never end by themselves: an operator without one of them would be deaf."""
    if not task.cancelled() and (error := task.exception()):
        _log.critical("the operator cannot go on and ends", exc_info=error)
        signal.raise_signal(signal.SIGTERM)
