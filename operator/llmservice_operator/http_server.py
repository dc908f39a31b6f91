"""The operator's own port, for machines: autoscalers, activators, Prometheus. Knows no service.

Every answer is short and made from memory; what asks too much at once is told to come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from aiohttp import web

from llmservice_operator.backlog import Backlogs, UnknownBacklogError, UnknownServiceError
from llmservice_operator.cluster import ServiceKey

PATH_BACKLOG: Final = "/backlog"
MOST_AT_ONCE: Final = 256  # requests that are being answered
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
) -> AsyncGenerator[int]:
    """Serve the routes until the context ends; gives the port, which 0 lets the system choose.

    Raises OSError naming the address when it is taken.
    """
    app = web.Application(client_max_size=_BODY_BYTES, middlewares=[_bounded()])
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


def refusal(status: int, message: str) -> web.Response:
    """A JSON answer that says what is wrong."""
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else {}
    body = msgspec.json.encode({"error": message})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _bounded() -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    room = asyncio.Semaphore(MOST_AT_ONCE)

    @web.middleware
    async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if room.locked():
            return refusal(503, f"{MOST_AT_ONCE} requests are being answered; come back later")
        async with room:
            return await handler(request)

    return bounded
