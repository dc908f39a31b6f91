"""The data port's metrics page: ours and the engine's, and ours alone when the engine is silent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fakes.engine import FakeEngine
from llmservice_sidecar.adapters import http_passthrough
from llmservice_sidecar.adapters.http_passthrough import PassThrough
from llmservice_sidecar.runtime.ports import EngineResponse

OURS = b"# TYPE llmservice_engine_up gauge\nllmservice_engine_up 0\n"


class Page:
    status = 200
    content_type = "text/plain"

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"# TYPE vllm:num_requests_running gauge\n"
        if self._hangs:
            await asyncio.Event().wait()
        yield b"vllm:num_requests_running 3.0\n"


class PagedEngine(FakeEngine):
    """Has a metrics page; `hangs` in the middle of it, or before it answers at all."""

    hangs: bool = False
    silent: bool = False

    @contextlib.asynccontextmanager
    async def get(self, path: str) -> AsyncGenerator[EngineResponse]:
        assert path == "/metrics"
        if self.silent:
            await asyncio.Event().wait()
        yield Page(hangs=self.hangs)


async def page_of(engine: FakeEngine) -> str:
    app = web.Application()
    metrics = (OURS, "text/plain; version=0.0.4")
    PassThrough(engine, metrics=lambda _: metrics, queued=lambda: 0).add_to(app)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/metrics")
        assert answer.status == 200
        return await answer.text()


async def test_both_parts_are_one_page() -> None:
    page = await page_of(PagedEngine())
    assert "llmservice_engine_up 0" in page
    assert "vllm:num_requests_running 3.0" in page


@pytest.mark.parametrize("state", ["hangs", "silent"])
async def test_an_engine_that_hangs_takes_no_figure_of_ours_along(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_passthrough, "_ENGINE_METRICS_S", 0.05)
    engine = PagedEngine()
    setattr(engine, state, True)
    page = await page_of(engine)
    assert "llmservice_engine_up 0" in page
    assert "vllm:" not in page
