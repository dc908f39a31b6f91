"""The ports for machines: 9090 tells how the sidecar is, 127.0.0.1:9091 makes it drain.

9091 also tells the queue one by one: names of tenants and requests are for who may enter the pod.
Nothing here ever waits for the engine: a probe must answer while the engine hangs.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web
from llmservice_api import names
from llmservice_api.queue_view import DEFAULT_ROWS, MOST_ROWS, QueueView
from llmservice_api.sidecar_config import ListenConfig
from llmservice_api.status_report import StatusReport

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsSources:
    """What the ops port tells, read at the moment of the question.

    `metrics` takes an Accept header and gives body and content type. `drain` takes seconds and
    returns True when nothing is left. `statistics` and `snapshot` are what the predictor has
    learned, as bytes; None: it learns nothing. `queue_view` takes a number of rows.
    """

    report: Callable[[], StatusReport]
    metrics: Callable[[str], tuple[bytes, str]]
    drain: Callable[[float], Awaitable[bool]]
    drain_timeout_s: float
    statistics: Callable[[], Awaitable[bytes | None]]
    snapshot: Callable[[], Awaitable[bytes | None]]
    queue_view: Callable[[int], QueueView]


class OpsServer:
    """Both ports. `start` binds them; `ops_port` and `admin_port` are then the real ones."""

    def __init__(self, sources: OpsSources, *, listen: ListenConfig) -> None:
        self._listen = listen
        self._ops = web.AppRunner(ops_app(sources), access_log=None)
        self._admin = web.AppRunner(admin_app(sources), access_log=None, shutdown_timeout=1.0)
        self.ops_port = listen.ops_port
        self.admin_port = listen.admin_port

    async def start(self) -> None:
        """Listen. Raises OSError naming the address when it is taken."""
        listen = self._listen
        self.ops_port = await _bind(self._ops, listen.host, listen.ops_port)
        self.admin_port = await _bind(self._admin, listen.admin_host, listen.admin_port)

    async def close(self) -> None:
        """Stop listening; what is being answered gets a second."""
        await asyncio.gather(self._ops.cleanup(), self._admin.cleanup())


def ops_app(sources: OpsSources) -> web.Application:
    """/metrics /healthz /readyz /status, for kubelet, Prometheus and the operator.

    /predictor/statistics for other replicas, /predictor/snapshot for the operator.
    """

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = sources.metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")  # that the loop can answer is all that is asked

    async def readyz(_: web.Request) -> web.Response:
        report = sources.report()
        if report.ready:
            return web.Response(text="ready\n")
        why = "draining" if report.draining else report.engine.message or "the engine is not ready"
        return web.Response(status=503, text=f"not ready: {why}\n")

    async def status(_: web.Request) -> web.Response:
        return _json(msgspec.json.encode(sources.report()))

    async def statistics(_: web.Request) -> web.Response:
        return _learned(await sources.statistics())

    async def snapshot(_: web.Request) -> web.Response:
        return _learned(await sources.snapshot())

    app = web.Application()
    app.router.add_get(names.PATH_STATISTICS, statistics)
    app.router.add_get(names.PATH_SNAPSHOT, snapshot)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status", status)
    return app


def admin_app(sources: OpsSources) -> web.Application:
    """/drain, for the engine container's preStop: answers when the pod may end.

    /queue?limit=N, for people: who runs, who waits, and why.
    """

    async def drain(_: web.Request) -> web.Response:
        _log.info("drain asked for; at most %.0f s", sources.drain_timeout_s)
        drained = await sources.drain(sources.drain_timeout_s)
        if not drained:
            _log.warning(
                "requests were left after the drain of %.0f s; they end with the engine: "
                "raise drainTimeoutSeconds if answers take longer",
                sources.drain_timeout_s,
            )
        return _json(msgspec.json.encode({"drained": drained}))

    async def queue(request: web.Request) -> web.Response:
        given = request.query.get("limit", str(DEFAULT_ROWS))
        if not (re.fullmatch("[0-9]{1,3}", given) and int(given) <= MOST_ROWS):
            text = f"limit is {given[:32]!r}; allowed: a number from 0 to {MOST_ROWS}\n"
            return web.Response(status=400, text=text)
        return _json(msgspec.json.encode(sources.queue_view(int(given))))

    app = web.Application()
    app.router.add_get(names.PATH_QUEUE, queue)
    # GET too: a preStop of kind httpGet and people with a browser send nothing else.
    app.router.add_get("/drain", drain)
    app.router.add_post("/drain", drain)
    return app


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _learned(payload: bytes | None) -> web.Response:
    if payload is None:
        return web.Response(status=404, text="this predictor learns nothing from requests\n")
    return web.Response(body=payload, content_type="application/octet-stream")


async def _bind(runner: web.AppRunner, host: str, port: int) -> int:
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    bound: int = runner.addresses[0][1]
    return bound
