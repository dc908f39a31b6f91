"""The operator's own port, for machines: autoscalers, activators, Prometheus. Knows no service.

Every answer is short and made from memory; what asks too much at once is told to come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence, Set
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from llmservice_operator.backlog import Backlogs, UnknownBacklogError, UnknownServiceError
from llmservice_operator.cluster import ServiceKey
from llmservice_operator.metrics import CONTENT_TYPE, Metrics

PATH_BACKLOG: Final = "/backlog"
PATH_METRICS: Final = "/metrics"
MOST_AT_ONCE: Final = 256  # requests that are being answered
MOST_STREAMS: Final = 128  # answers without an end; the chart allows a hundred activators
_BODY_BYTES: Final = 64 * 1024
_RETRY_AFTER_S: Final = 5
_SHUTDOWN_S: Final = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(
    routes: Sequence[web.AbstractRouteDef],
    *,
    port: int,
    host: str = "0.0.0.0",  # noqa: S104
    leading: Callable[[], bool] = lambda: True,
    streams: Set[str] = frozenset(),
) -> AsyncGenerator[int]:
    """Serve the routes until the context ends; gives the port, which 0 lets the system choose.

    While not `leading` only the metrics are told: this operator knows nothing of services then.
    `streams` are the paths of answers without an end, which take no room from the others.
    Raises OSError naming the address when it is taken.
    """
    app = web.Application(
        client_max_size=_BODY_BYTES, middlewares=[_only_metrics_unless(leading), _bounded(streams)]
    )
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def backlog_routes(backlogs: Backlogs) -> list[web.AbstractRouteDef]:
    """`GET /backlog?namespace=N&name=S`: predicted seconds of work, as JSON."""

    async def backlog(request: web.Request) -> web.Response:
        namespace, name = request.query.get("namespace"), request.query.get("name")
        if not namespace or not name:
            text = "/backlog needs the query parameters namespace and name of an LLMService"
            return refusal(400, text)
        try:
            found = await backlogs.of(ServiceKey(namespace, name))
        except UnknownServiceError as error:
            return refusal(404, str(error))
        except UnknownBacklogError as error:
            # An error keeps an autoscaler where it is; a 0 would have it take replicas away.
            return refusal(503, str(error))
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    return [web.get(PATH_BACKLOG, backlog)]


def metrics_routes(metrics: Metrics) -> list[web.AbstractRouteDef]:
    """`GET /metrics`, for Prometheus."""

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return [web.get(PATH_METRICS, scrape)]


def refusal(status: int, message: str) -> web.Response:
    """A JSON answer that says what is wrong."""
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else {}
    body = msgspec.json.encode({"error": message})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _only_metrics_unless(leading: Callable[[], bool]) -> Middleware:
    @web.middleware
    async def only_metrics(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != PATH_METRICS and not leading():
            return refusal(503, "this operator stands by; another one holds the Lease")
        return await handler(request)

    return only_metrics


def _bounded(streams: Set[str]) -> Middleware:
    answers, endless = asyncio.Semaphore(MOST_AT_ONCE), asyncio.Semaphore(MOST_STREAMS)

    @web.middleware
    async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
        room = endless if request.path in streams else answers
        if room.locked():
            most = MOST_STREAMS if room is endless else MOST_AT_ONCE
            return refusal(503, f"{most} requests are being answered; come back later")
        async with room:
            return await handler(request)

    return bounded
