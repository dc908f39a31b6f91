"""The port for machines: /healthz /readyz /metrics /status."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web
from llmservice_api.activation import ActivatorReport


def ops_app(
    report: Callable[[], ActivatorReport], metrics: Callable[[str], tuple[bytes, str]]
) -> web.Application:
    """What kubelet, Prometheus and the operator ask; read at the moment of the question."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")  # that the loop can answer is all that is asked

    async def readyz(_: web.Request) -> web.Response:
        now = report()
        if now.draining:
            return web.Response(status=503, text="not ready: draining\n")
        if not now.synced:
            text = "not ready: the operator has not yet told of every service\n"
            return web.Response(status=503, text=text)
        return web.Response(text="ready\n")

    async def page(request: web.Request) -> web.Response:
        body, content_type = metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def status(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(report()), content_type="application/json")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", page)
    app.router.add_get("/status", status)
    return app
