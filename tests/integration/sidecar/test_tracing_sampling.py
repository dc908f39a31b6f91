"""Context in and out of both doors, traces kept at their end, collectors that take nothing.

The engine here writes down what it is sent: a real one tells nobody which headers it got.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from fakes.otlp_receiver import OtlpReceiver
from integration.sidecar.clients import (
    CLIENT_SPAN,
    ClientTrace,
    chat_body,
    generate_request,
    grpc_stub,
    post_chat,
)
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import (
    EngineConfig,
    ListenConfig,
    ModelConfig,
    StaticConfig,
    TracingConfig,
)
from llmservice_sidecar.runtime import telemetry_names as names

CHAT_DOOR: Final = "POST /v1/chat/completions"
STATE: Final = "vendor=one,other=two"
FAIL: Final = 499  # max_tokens of a request that the engine fails
_DROPPED: Final = re.compile(rb"^llmservice_spans_dropped_total ([0-9.e+]+)$", re.MULTILINE)
_USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 1}


@dataclass
class NotingEngine:
    """Answers with one token, and keeps the headers of every call."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    async def answer(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.json()
        if body.get("max_tokens") == FAIL:
            return web.json_response({"error": {"message": "no"}}, status=500)
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "a"}}
            return web.json_response({"choices": [choice], "usage": _USAGE})
        text = (
            'data: {"choices":[{"index":0,"text":"a","finish_reason":"stop"}]}\n\n'
            'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
            "data: [DONE]\n\n"
        )
        return web.Response(text=text, content_type="text/event-stream")

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[NotingEngine]:
        async def health(_: web.Request) -> web.Response:
            return web.Response()

        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        app.router.add_post("/v1/completions", self.answer)
        app.router.add_get("/health", health)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@asynccontextmanager
async def sidecar_before(
    engine: NotingEngine, tracing: TracingConfig, directory: Path
) -> AsyncGenerator[SidecarProcess]:
    static = StaticConfig(
        service="chat",
        namespace="team",
        model=ModelConfig(name="tiny"),
        engine=EngineConfig(url=engine.url, slots=4, allowed_extra_args=("out_len",)),
        listen=ListenConfig(host="127.0.0.1", http_port=0, grpc_port=0, ops_port=0, admin_port=0),
        tracing=tracing,
    )
    sidecar = SidecarProcess(static, directory)
    await asyncio.to_thread(sidecar.__enter__)
    try:
        yield sidecar
    finally:
        await asyncio.to_thread(sidecar.__exit__, None, None, None)


def from_caller(trace: ClientTrace, *, sampled: bool) -> dict[str, str]:
    return {
        "traceparent": f"00-{trace.id}-{CLIENT_SPAN}-0{int(sampled)}",
        "tracestate": STATE,
    }


async def test_context_and_tail_at_both_doors(otlp: OtlpReceiver, tmp_path: Path) -> None:
    tracing = TracingConfig(exporter_endpoint=otlp.endpoint)
    async with (
        NotingEngine().listening() as engine,
        sidecar_before(engine, tracing, tmp_path) as sidecar,
    ):
        fine, failed = ClientTrace(), ClientTrace()
        status, _, _ = await post_chat(sidecar, chat_body(1), from_caller(fine, sampled=False))
        assert status == 200
        unsampled = from_caller(failed, sampled=False)
        status, _, _ = await post_chat(sidecar, chat_body(1, max_tokens=FAIL), unsampled)
        assert status == 500
        for trace in (fine, failed):
            sent = engine.headers[(fine, failed).index(trace)]
            assert sent["tracestate"] == STATE
            version, trace_id, span_id, flags = sent["traceparent"].split("-")
            assert (version, trace_id, int(flags, 16) & 1) == ("00", trace.id, 0)
            assert span_id != CLIENT_SPAN
        both = ClientTrace(), ClientTrace()
        await post_chat(sidecar, chat_body(1), from_caller(both[0], sampled=True))
        async with grpc_stub(sidecar) as stub:
            metadata = tuple(from_caller(both[1], sampled=True).items())
            async for _ in stub.Generate(generate_request(1), metadata=metadata):
                pass
        for trace, sent, client in zip(
            both, engine.headers[2:], ("chat tiny", "text_completion tiny"), strict=True
        ):
            spans = await asyncio.to_thread(otlp.wait_for_trace, trace.id, (client,))
            assert sent["traceparent"] == f"00-{trace.id}-{spans[client].span_id}-01"
            assert sent["tracestate"] == STATE
        kept = await asyncio.to_thread(
            otlp.wait_for_trace, failed.id, (CHAT_DOOR, names.SPAN_QUEUE, "chat tiny")
        )
        assert kept[CHAT_DOOR].parent_id == CLIENT_SPAN
        assert kept[CHAT_DOOR].attributes[names.ATTR_SAMPLED_BY] == "error"
        assert kept["chat tiny"].attributes[names.ATTR_HTTP_STATUS] == 500
        assert {kept[name].parent_id for name in kept if name != CHAT_DOOR} == {
            kept[CHAT_DOOR].span_id
        }
        # It ended before all of those that have arrived.
        assert otlp.spans(fine.id) == []


@pytest.fixture(params=["refuses", "never answers"])
def no_collector(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address whose owner refuses connections, or takes them and never answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        if request.param == "never answers":
            held.listen(16)
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


async def dropped(sidecar: SidecarProcess) -> float:
    found = _DROPPED.search(await asyncio.to_thread(sidecar.get, "/metrics"))
    assert found is not None
    return float(found[1])


async def test_a_collector_that_takes_nothing_costs_spans_and_no_request(
    no_collector: str, tmp_path: Path
) -> None:
    tracing = TracingConfig(exporter_endpoint=no_collector, sampler="always_on")
    async with NotingEngine().listening() as engine:
        async with sidecar_before(engine, tracing, tmp_path) as sidecar:
            answers = await asyncio.gather(*(post_chat(sidecar, chat_body(1)) for _ in range(20)))
            assert [status for status, _, _ in answers] == [200] * 20
            async with asyncio.timeout(60):
                while await dropped(sidecar) < 60:  # noqa: ASYNC110 - seen from outside
                    await asyncio.sleep(0.2)
            await post_chat(sidecar, chat_body(1))
        # It has ended in time, though an export alone takes longer: leaving the block checks that.
        assert sidecar.process.returncode == 0
        assert "the trace collector did not take the last spans" in sidecar.log()
