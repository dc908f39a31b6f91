"""The running operator: queue, workers, poller and cluster connection, made and ended together."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import aiohttp
from llmservice_api import names

from llmservice_operator.backlog import Backlogs
from llmservice_operator.cluster import Cluster, ClusterError, ObjectRef, ServiceKey
from llmservice_operator.fenced_cluster import FencedCluster
from llmservice_operator.http_server import backlog_routes, metrics_routes, serving
from llmservice_operator.inventory import Inventory
from llmservice_operator.kube_json import Manifest
from llmservice_operator.kubernetes_cluster import connected
from llmservice_operator.leader_election import LEASE_API, LeaderElection
from llmservice_operator.metrics import Metrics
from llmservice_operator.polling import Poller, http_fetch
from llmservice_operator.reconcile import Reconciler
from llmservice_operator.resync import Resync
from llmservice_operator.settings import OperatorSettings
from llmservice_operator.sight import Sight
from llmservice_operator.snapshots import LARGEST_BYTES, SnapshotKeeper
from llmservice_operator.telemetry import Telemetry, TracedCluster
from llmservice_operator.tracing import make_tracing
from llmservice_operator.waking import ApiServer, Waking
from llmservice_operator.work_queue import Pace, WorkQueue

_log = logging.getLogger(__name__)
_TIMEOUT = aiohttp.ClientTimeout(total=10.0)  # of one answer of a sidecar


class LeaseLostError(Exception):
    """Another operator may write by now: this one has to end."""


class OperatorProcess:
    """One operator. Of several that share a Lease one works, the others stand by."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._sight = Sight(namespaced=bool(settings.namespaces), clock=time.monotonic)
        self._inventory = Inventory()
        self._queue: WorkQueue[ServiceKey] | None = None
        self._resync: Resync | None = None
        self._election: LeaderElection | None = None
        self._waking: Waking | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = AsyncExitStack()
        self._failed = False

    @property
    def depth(self) -> int:
        """Services that wait to be looked at."""
        return self._queue.depth if self._queue else 0

    @property
    def blind_s(self) -> float:
        """How long an event has been missing; 0 while events reach this operator."""
        return self._sight.blind_s

    @property
    def leading(self) -> bool:
        """Whether this operator is the one that writes."""
        return self._election is not None and self._election.leading

    @property
    def failed(self) -> bool:
        """Whether it has ended because it could not go on."""
        return self._failed

    def look_at(self, key: ServiceKey) -> None:
        """Something about this service may have changed."""
        if self._queue is not None:
            self._queue.add(key)

    def told(self, manifest: Manifest) -> None:
        """An event about this object has come."""
        self._sight.told(manifest)

    def told_of(self, key: ServiceKey, ref: ObjectRef, *, gone: bool) -> None:
        """An event about an object with that service's label has come."""
        self._inventory.told(key, ref, gone=gone)

    def definitions_changed(self) -> None:
        """An optional kind may have come or gone."""
        if self._resync is not None:
            self._resync.definitions_changed()

    async def start(self) -> None:
        """Connect and stand by; the work begins once the Lease is held.

        Raises ClusterError when no cluster is configured, OSError when its port is taken,
        TracingError when the environment asks for spans that cannot be sent.
        """
        settings = self._settings
        tracing = make_tracing(os.environ)
        self._resources.push_async_callback(tracing.close)
        cluster = await self._resources.enter_async_context(connected())
        resync = Resync(cluster, self._sight, look_at=self.look_at, settings=settings)
        await resync.until_served()
        self._resync = resync
        if settings.namespaces:  # kopf looks for kinds once then
            self._sight.watching(cluster.capabilities.watched())
        metrics = Metrics(
            depth=lambda: self.depth,
            leading=lambda: self.leading,
            blind_s=lambda: self.blind_s,
        )
        election = await self._candidate()
        self._election = election
        self._waking = await self._waker(cluster)
        writing = TracedCluster(
            FencedCluster(cluster, check=election.check),
            tracer=tracing.tracer,
            metrics=metrics,
            seen=self._sight.listed,
        )
        queue = await self._equipped(writing, Telemetry(tracing.tracer, metrics), metrics)
        self._queue = queue
        self._run(resync.run())
        self._run(self._lead(election, queue))

    async def stop(self) -> None:
        """End the work, let a successor take over and close connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._election is not None:
            await self._election.release()
        await self._resources.aclose()

    async def _candidate(self) -> LeaderElection:
        settings = self._settings
        # A connection of its own: a renewal never waits for one behind the work.
        leases = await self._resources.enter_async_context(connected())
        return LeaderElection(
            leases,
            ref=ObjectRef(*LEASE_API, settings.lease_namespace, settings.lease),
            identity=f"{socket.gethostname()}_{uuid.uuid4()}",
            terms=settings.lease_terms,
            clock=_seconds_since_boot,
            now=_now,
            away=self._sight.away,
        )

    async def _waker(self, api: ApiServer) -> Waking | None:
        settings = self._settings
        if not settings.activator_selector:
            return None
        session = await self._resources.enter_async_context(aiohttp.ClientSession(timeout=_TIMEOUT))
        waking = Waking(api, session, settings=settings, look_at=self.look_at)
        self._run(waking.follow())
        return waking

    async def _equipped(
        self, cluster: Cluster, telemetry: Telemetry, metrics: Metrics
    ) -> WorkQueue[ServiceKey]:
        """Everything that a look at a service needs, and the queue of looks."""
        settings = self._settings
        session = await self._resources.enter_async_context(aiohttp.ClientSession(timeout=_TIMEOUT))
        report = http_fetch(session, port=settings.ops_port)
        poller = Poller(report, changed=self.look_at, settings=settings, polled=metrics.polled)
        snapshot = http_fetch(
            session,
            port=settings.ops_port,
            path=names.PATH_SNAPSHOT,
            largest_bytes=LARGEST_BYTES,
        )
        waking = self._waking
        snapshots = SnapshotKeeper(cluster, snapshot, settings=settings, clock=time.monotonic)
        backlogs = Backlogs(ask=poller.ask, answers=poller.answers, now=_now, clock=time.monotonic)
        if waking is not None:
            backlogs.add_held(waking.held)
        if settings.http_port is not None:
            routes = [*metrics_routes(metrics), *backlog_routes(backlogs)]
            routes += waking.routes if waking else ()
            await self._resources.enter_async_context(
                serving(
                    routes,
                    port=settings.http_port,
                    leading=lambda: self.leading,
                    streams=frozenset({names.PATH_ACTIVATIONS}),
                )
            )
        reconciler = Reconciler(
            cluster,
            inventory=self._inventory,
            poller=poller,
            keepers=(snapshots, backlogs),
            witness=telemetry,
            settings=settings,
            now=_now,
            stand_in=waking.activations if waking else None,
        )
        self._run(poller.run())

        async def look(key: ServiceKey) -> float | None:
            return await telemetry.look(key, reconciler.reconcile)

        return WorkQueue(look, pace=_pace(settings), figures=metrics, expected=(ClusterError,))

    async def _lead(self, election: LeaderElection, queue: WorkQueue[ServiceKey]) -> None:
        """Work from when the Lease is ours until it is lost."""
        await election.acquire()
        if self._waking is not None:
            self._run(self._waking.load())
        for _ in range(self._settings.workers):
            self._run(queue.work())
        await election.hold()
        raise LeaseLostError

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._stop_if_it_failed)
        self._tasks.append(task)

    def _stop_if_it_failed(self, task: asyncio.Task[None]) -> None:
        """These tasks never end by themselves: an operator without one of them would be deaf."""
        if not task.cancelled() and (error := task.exception()):
            told = None if isinstance(error, LeaseLostError) else error
            _log.critical("the operator cannot go on and ends", exc_info=told)
            self._failed = True
            signal.raise_signal(signal.SIGTERM)


def _pace(settings: OperatorSettings) -> Pace:
    return Pace(
        retry_first_s=settings.retry_first_s,
        retry_longest_s=settings.retry_longest_s,
        look_longest_s=settings.look_longest_s,
        burst=settings.look_burst,
        every_s=settings.look_every_s,
        slow_s=settings.slow_look_s,
        rest_longest_s=settings.rest_longest_s,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _seconds_since_boot() -> float:
    # Unlike the monotonic clock it goes on while the machine sleeps.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
