"""One trace per request, whatever becomes of it, from the client's span to the engine's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from aiohttp import web
from fakes.otlp_receiver import OtlpReceiver, ReceivedSpan
from integration.sidecar.clients import (
    CANARY,
    CLIENT_SPAN,
    ClientTrace,
    chat_body,
    generate_request,
    grpc_stub,
    occupied,
    post_chat,
)
from integration.sidecar.conftest import SLOTS, static_config
from integration.sidecar.running import SidecarProcess
from integration.sidecar.turns import served_after
from llmservice_api.names import GRPC_SERVICE
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar.runtime import telemetry_names as names

CHAT_DOOR = "POST /v1/chat/completions"
GRPC_DOOR = f"{GRPC_SERVICE}/Generate"
QUEUE_ROOM = 8


def assert_tree(spans: Mapping[str, ReceivedSpan], *, door: str, client: str | None) -> None:
    """The door's span hangs on the caller's; all ours hang on the door's; the engine's on ours."""
    server = spans[door]
    assert (server.parent_id, server.kind) == (CLIENT_SPAN, "SERVER")
    for name in (names.SPAN_PREDICT, names.SPAN_QUEUE):
        if name in spans:
            assert (spans[name].parent_id, spans[name].kind) == (server.span_id, "INTERNAL")
    if client is not None:
        assert (spans[client].parent_id, spans[client].kind) == (server.span_id, "CLIENT")
        assert spans[names.SPAN_QUEUE].end_ns <= spans[client].end_ns
    if names.SPAN_ENGINE_OWN in spans:
        assert client is not None
        assert spans[names.SPAN_ENGINE_OWN].parent_id == spans[client].span_id


def ended(spans: Mapping[str, ReceivedSpan], door: str) -> tuple[object, object]:
    """Outcome and reason on the SERVER span."""
    attributes = spans[door].attributes
    return attributes[names.ATTR_OUTCOME], attributes[names.ATTR_REASON]


async def test_completed_chat_has_the_whole_tree(
    sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    status, _, answer = await post_chat(sidecar, chat_body(12, temperature=0.0), trace.headers)
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 12
    expected = (CHAT_DOOR, names.SPAN_PREDICT, names.SPAN_QUEUE, "chat tiny", "llm_request")
    spans = otlp.wait_for_trace(trace.id, expected)
    assert_tree(spans, door=CHAT_DOOR, client="chat tiny")
    assert ended(spans, CHAT_DOOR) == ("completed", "stop")
    server, client = spans[CHAT_DOOR].attributes, spans["chat tiny"].attributes
    assert server[names.ATTR_ACTUAL] == 12
    assert server[names.ATTR_DOOR] == "http"
    assert server[names.ATTR_POLICY] == "SSJF"
    assert isinstance(server[names.ATTR_PREDICTED], float)
    assert client[names.ATTR_GEN_AI_OPERATION] == "chat"
    assert client[names.ATTR_GEN_AI_PROVIDER] == "vllm"
    assert client[names.ATTR_GEN_AI_MODEL] == "tiny"
    assert client[names.ATTR_GEN_AI_OUTPUT_TOKENS] == 12
    assert client[names.ATTR_GEN_AI_INPUT_TOKENS] == answer["usage"]["prompt_tokens"]
    assert client[names.ATTR_GEN_AI_FINISH_REASONS] == ["stop"]


async def test_the_engines_own_span_shows_that_the_queue_is_ours(
    sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    status, headers, _ = await served_after(
        sidecar, 1.0, lambda: post_chat(sidecar, chat_body(5), trace.headers)
    )
    assert status == 200
    spans = otlp.wait_for_trace(trace.id, (names.SPAN_QUEUE, names.SPAN_ENGINE_OWN))
    waited_s = spans[names.SPAN_QUEUE].attributes[names.ATTR_QUEUE_WAIT_S]
    in_engine_s = spans[names.SPAN_ENGINE_OWN].attributes[names.ATTR_ENGINE_QUEUE_S]
    assert isinstance(waited_s, float)
    assert isinstance(in_engine_s, float)
    assert waited_s > 0.9
    assert in_engine_s < waited_s / 2
    assert float(headers["x-llmservice-queue-ms"]) == pytest.approx(waited_s * 1000, abs=5)
    assert names.EVENT_OFFER in spans[names.SPAN_QUEUE].events


async def test_completed_grpc_call_has_the_whole_tree(
    sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    async with grpc_stub(sidecar) as stub:
        async for _ in stub.Generate(generate_request(7), metadata=trace.metadata):
            pass
    expected = (GRPC_DOOR, names.SPAN_QUEUE, "text_completion tiny", names.SPAN_ENGINE_OWN)
    spans = otlp.wait_for_trace(trace.id, expected)
    assert_tree(spans, door=GRPC_DOOR, client="text_completion tiny")
    assert ended(spans, GRPC_DOOR) == ("completed", "stop")
    assert spans[GRPC_DOOR].attributes[names.ATTR_ACTUAL] == 7
    client = spans["text_completion tiny"]
    assert names.EVENT_FIRST_TOKEN in client.events
    first_chunk_s = client.attributes[names.ATTR_GEN_AI_TIME_TO_FIRST_CHUNK]
    assert isinstance(first_chunk_s, float)
    assert 0 < first_chunk_s < (client.end_ns - client.start_ns) / 1e9
    assert spans[GRPC_DOOR].resource["k8s.pod.name"] == "chat-0"


async def test_answer_cut_by_max_tokens_says_so(
    sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    await post_chat(sidecar, chat_body(50, max_tokens=4), trace.headers)
    spans = otlp.wait_for_trace(trace.id, (CHAT_DOOR,))
    assert ended(spans, CHAT_DOOR) == ("completed", "length")


async def test_rejected_request_has_a_trace(sidecar: SidecarProcess, otlp: OtlpReceiver) -> None:
    trace = ClientTrace()
    async with occupied(sidecar, running=SLOTS, queued=QUEUE_ROOM):
        status, headers, _ = await post_chat(sidecar, chat_body(5), trace.headers)
    assert status == 429
    spans = otlp.wait_for_trace(trace.id, (CHAT_DOOR,))
    assert_tree(spans, door=CHAT_DOOR, client=None)
    assert ended(spans, CHAT_DOOR) == ("rejected", "queue_full")
    retry_after_s = spans[CHAT_DOOR].attributes[names.ATTR_RETRY_AFTER_S]
    assert isinstance(retry_after_s, float)
    assert int(headers["retry-after-ms"]) == pytest.approx(retry_after_s * 1000, abs=1)


async def test_invalid_request_has_a_trace_at_both_doors(
    sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    http, rpc = ClientTrace(), ClientTrace()
    status, _, _ = await post_chat(sidecar, chat_body(5, not_a_field=CANARY), http.headers)
    assert status == 400
    async with grpc_stub(sidecar) as stub:
        bad = generate_request(5, model="gone")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Generate(bad, metadata=rpc.metadata).read()
    assert ended(otlp.wait_for_trace(http.id, (CHAT_DOOR,)), CHAT_DOOR) == (
        "rejected",
        "invalid_request",
    )
    assert ended(otlp.wait_for_trace(rpc.id, (GRPC_DOOR,)), GRPC_DOOR) == (
        "rejected",
        "invalid_request",
    )


async def test_evicted_request_has_a_trace(
    fresh_sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    async with occupied(fresh_sidecar, running=SLOTS):
        hurry = {**trace.headers, "x-request-timeout-ms": "100"}
        status, _, answer = await post_chat(fresh_sidecar, chat_body(5), hurry)
    assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
    spans = otlp.wait_for_trace(trace.id, (CHAT_DOOR, names.SPAN_QUEUE))
    assert_tree(spans, door=CHAT_DOOR, client=None)
    assert ended(spans, CHAT_DOOR) == ("evicted", "deadline")
    assert spans[CHAT_DOOR].status == "ERROR"
    waited_s = spans[names.SPAN_QUEUE].attributes[names.ATTR_QUEUE_WAIT_S]
    assert isinstance(waited_s, float)
    assert waited_s > 0.09  # all of its 0.1 s, but for the grain of the clock


async def test_request_cancelled_in_the_queue_has_a_trace(
    sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    async with occupied(sidecar, running=SLOTS), grpc_stub(sidecar) as stub:
        call = stub.Generate(generate_request(5), metadata=trace.metadata)
        assert (await call.read()).WhichOneof("event") == "queued"
        call.cancel()
        spans = await asyncio.to_thread(
            otlp.wait_for_trace, trace.id, (GRPC_DOOR, names.SPAN_QUEUE)
        )
    assert_tree(spans, door=GRPC_DOOR, client=None)
    assert ended(spans, GRPC_DOOR) == ("cancelled", "client_gone")


async def test_request_cancelled_while_it_runs_has_a_trace(
    sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    async with grpc_stub(sidecar) as stub:
        call = stub.Generate(generate_request(800), metadata=trace.metadata)
        assert (await call.read()).WhichOneof("event") == "delta"
        call.cancel()
        spans = await asyncio.to_thread(
            otlp.wait_for_trace, trace.id, (GRPC_DOOR, "text_completion tiny")
        )
    assert_tree(spans, door=GRPC_DOOR, client="text_completion tiny")
    assert ended(spans, GRPC_DOOR) == ("cancelled", "client_gone")


@asynccontextmanager
async def breaking_engine(break_off: asyncio.Event) -> AsyncGenerator[str]:
    """An engine that is healthy, gives the first event of every answer, and then breaks off."""

    async def completions(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"index": 0, "text": "a"}]}\n\n')
        await break_off.wait()
        assert request.transport is not None
        request.transport.close()  # without the last chunk: the answer is incomplete
        return response

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/completions", completions)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_failed_request_has_a_trace(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path: Path
) -> None:
    trace, break_off = ClientTrace(), asyncio.Event()
    async with breaking_engine(break_off) as url:
        static = static_config(engine_latency, otlp, engine_url=url)
        sidecar = SidecarProcess(static, tmp_path)
        await asyncio.to_thread(sidecar.__enter__)
        try:
            async with grpc_stub(sidecar) as stub:
                call = stub.Generate(generate_request(5), metadata=trace.metadata)
                assert (await call.read()).delta.text == "a"
                break_off.set()
                with pytest.raises(grpc.aio.AioRpcError):
                    await call.read()
        finally:
            await asyncio.to_thread(sidecar.__exit__, None, None, None)
    spans = otlp.wait_for_trace(trace.id, (GRPC_DOOR, "text_completion tiny"))
    assert_tree(spans, door=GRPC_DOOR, client="text_completion tiny")
    outcome, reason = ended(spans, GRPC_DOOR)
    assert outcome == "failed"
    assert reason in ("engine_error", "engine_down")
    assert spans["text_completion tiny"].status == "ERROR"


async def test_metrics_count_outcomes_and_point_to_traces(sidecar: SidecarProcess) -> None:
    trace = ClientTrace()
    await post_chat(sidecar, chat_body(3), trace.headers)
    openmetrics = {"Accept": "application/openmetrics-text"}
    text = (await asyncio.to_thread(sidecar.get, "/metrics", **openmetrics)).decode()
    assert 'llmservice_requests_total{outcome="completed",reason="stop"}' in text
    assert f'trace_id="{trace.id}"' in text
    async with aiohttp.ClientSession() as session:
        response = await session.get(f"{sidecar.http}/metrics")
        merged = await response.text()
    assert "llmservice_engine_requests_waiting{" in merged
    assert "vllm:num_requests_running{" in merged
    assert "llmservice_queued_requests 0.0" in merged


async def test_prompts_appear_in_no_span_metric_status_or_log(
    sidecar: SidecarProcess, otlp: OtlpReceiver
) -> None:
    await post_chat(sidecar, chat_body(3), ClientTrace().headers)
    async with grpc_stub(sidecar) as stub:
        await stub.Generate(generate_request(2)).read()
    await asyncio.to_thread(sidecar.await_status, "idle", in_flight_slots=0, queued_requests=0)
    told = await asyncio.to_thread(
        lambda: [sidecar.get("/metrics"), sidecar.get("/status"), sidecar.log().encode()]
    )
    assert len(otlp.raw) > 0
    assert all(CANARY.encode() not in page for page in (*told, *otlp.raw))
