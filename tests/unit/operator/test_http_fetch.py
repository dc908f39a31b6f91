"""Reports over real HTTP on loopback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from llmservice_operator.polling import http_fetch

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def fetched(handler: Handler) -> bytes:
    app = web.Application()
    app.router.add_get("/status", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        return await http_fetch(session, port=int(server.make_url("/").port or 0))("127.0.0.1")


async def test_a_report_in_several_pieces_is_read_whole() -> None:
    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b"a" * 1000, b"b" * 1000):
            await response.write(piece)
        return response

    assert await fetched(pieces) == b"a" * 1000 + b"b" * 1000


async def test_a_report_without_end_is_refused() -> None:
    async def endless(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 300_000)

    with pytest.raises(aiohttp.ClientPayloadError):
        await fetched(endless)


async def test_an_error_is_an_error() -> None:
    async def broken(_: web.Request) -> web.StreamResponse:
        raise web.HTTPServiceUnavailable

    with pytest.raises(aiohttp.ClientResponseError):
        await fetched(broken)
