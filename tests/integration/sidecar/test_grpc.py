"""gRPC against the real sidecar and a real vLLM: the same answer, the same queue, a clean leave."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import msgspec
import pytest
from fakes.otlp_receiver import OtlpReceiver
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from integration.sidecar.clients import (
    chat_body,
    generate_request,
    grpc_stub,
    occupied,
    post_chat,
)
from integration.sidecar.conftest import SLOTS, static_config
from integration.sidecar.running import SidecarProcess
from integration.sidecar.turns import served_after
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

QUEUE_ROOM = 8


async def generated(stub: Any, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    """The whole stream."""
    return [message async for message in stub.Generate(request)]


def text_of(messages: list[pb.GenerateResponse]) -> str:
    """All deltas as one text."""
    return "".join(m.delta.text for m in messages)


async def test_chat_gives_the_same_text_and_usage_as_http(sidecar: SidecarProcess) -> None:
    body = chat_body(20, temperature=0.0)
    _, _, answer = await post_chat(sidecar, body)
    chat = pb.ChatPrompt(
        messages=[pb.ChatMessage(role=m["role"], content=m["content"]) for m in body["messages"]]
    )
    request = pb.GenerateRequest(
        chat=chat,
        sampling=pb.SamplingParams(temperature=0, max_tokens=1000),
        extra_args={"out_len": "20"},
    )
    async with grpc_stub(sidecar) as stub:
        messages = await generated(stub, request)
    finished = messages[-1].finished
    assert text_of(messages) == answer["choices"][0]["message"]["content"]
    assert messages[-2].delta.finish_reason == answer["choices"][0]["finish_reason"] == "stop"
    assert finished.usage.prompt_tokens == answer["usage"]["prompt_tokens"]
    assert finished.usage.completion_tokens == answer["usage"]["completion_tokens"] == 20


async def test_text_and_its_token_ids_give_the_same_answer(sidecar: SidecarProcess) -> None:
    async with aiohttp.ClientSession() as session:
        body = {"model": "tiny", "prompt": "once upon a time"}
        tokenized = await (await session.post(f"{sidecar.http}/tokenize", json=body)).json()
    shared: dict[str, Any] = {
        "sampling": pb.SamplingParams(temperature=0, max_tokens=1000),
        "extra_args": {"out_len": "9"},
        "return_token_ids": True,
    }
    by_text = pb.GenerateRequest(text="once upon a time", **shared)
    by_ids = pb.GenerateRequest(token_ids=pb.TokenIds(ids=tokenized["tokens"]), **shared)
    async with grpc_stub(sidecar) as stub:
        text, ids = await generated(stub, by_text), await generated(stub, by_ids)
    assert text[-1].finished.usage == ids[-1].finished.usage
    assert text[-1].finished.usage.completion_tokens == 9
    returned = [token for m in text for token in m.delta.token_ids]
    assert len(returned) == 9


async def test_choices_are_told_apart_by_index(sidecar: SidecarProcess) -> None:
    request = generate_request(6)
    request.sampling.n = 2
    async with grpc_stub(sidecar) as stub:
        messages = await generated(stub, request)
    finished = [m.delta.index for m in messages if m.delta.finish_reason]
    assert sorted(finished) == [0, 1]
    assert messages[-1].finished.usage.completion_tokens == 12


async def test_engine_refusal_keeps_its_message(sidecar: SidecarProcess) -> None:
    request = generate_request(5)
    request.sampling.temperature = -1
    async with grpc_stub(sidecar) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await generated(stub, request)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "temperature" in str(failed.value.details())


async def test_queued_call_waits_its_turn_and_is_told_so(sidecar: SidecarProcess) -> None:
    async with grpc_stub(sidecar) as stub:
        messages = await served_after(sidecar, 0.2, lambda: generated(stub, generate_request(5)))
    assert messages[0].WhichOneof("event") == "queued"
    assert (messages[0].queued.position, messages[0].queued.depth) == (0, 1)
    finished = messages[-1].finished
    assert finished.usage.completion_tokens == 5
    assert finished.timings.queue_wait.ToMilliseconds() > 190
    assert finished.timings.time_to_first_token.ToMicroseconds() > (
        finished.timings.queue_wait.ToMicroseconds()
    )


async def test_deadline_that_passes_in_the_queue_ends_the_call(
    fresh_sidecar: SidecarProcess,
) -> None:
    sidecar = fresh_sidecar
    async with occupied(sidecar, running=SLOTS), grpc_stub(sidecar) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            async for _ in stub.Generate(generate_request(5), timeout=0.3):
                pass
        await asyncio.to_thread(
            sidecar.await_status, "left", queued_requests=0, in_flight_slots=SLOTS
        )
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_cancel_frees_the_slot_and_aborts_the_engine(sidecar: SidecarProcess) -> None:
    async with grpc_stub(sidecar) as stub:
        call = stub.Generate(generate_request(900))
        assert (await call.read()).WhichOneof("event") == "delta"
        call.cancel()
        await asyncio.to_thread(sidecar.await_status, "slot is free", in_flight_slots=0)
        # The engine too: all of its slots are there for others at once.
        messages = [generated(stub, generate_request(5)) for _ in range(SLOTS)]
        answers = await asyncio.wait_for(asyncio.gather(*messages), 10)
    assert all(a[-1].finished.usage.completion_tokens == 5 for a in answers)


async def test_overload_is_refused_with_a_pushback(sidecar: SidecarProcess) -> None:
    async with occupied(sidecar, running=SLOTS, queued=QUEUE_ROOM), grpc_stub(sidecar) as stub:
        queue = await stub.GetQueue(pb.GetQueueRequest())
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await generated(stub, generate_request(5))
    assert (queue.queued_requests, queue.in_flight_slots, queue.limit_slots) == (8, 4, 4)
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(failed.value.trailing_metadata() or ())
    pushback_ms = int(str(trailers["grpc-retry-pushback-ms"]))
    raw = trailers["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    retry = RetryInfo()
    assert any(packed.Unpack(retry) for packed in Status.FromString(raw).details)
    assert retry.retry_delay.ToMilliseconds() == pushback_ms
    assert pushback_ms >= 1000


async def test_predict_asks_no_engine(sidecar: SidecarProcess) -> None:
    async with grpc_stub(sidecar) as stub:
        prediction = await stub.Predict(pb.PredictRequest(request=generate_request(5)))
    assert prediction.p90_tokens >= prediction.output_tokens > 0
    assert 0 < prediction.p50_tokens <= prediction.p90_tokens
    assert prediction.source


async def test_hundred_random_cancels_leave_nothing_behind(sidecar: SidecarProcess) -> None:
    async with grpc_stub(sidecar) as stub:

        async def one(number: int) -> None:
            call = stub.Generate(generate_request(200))
            await asyncio.sleep((number * 37 % 100) / 1000)
            call.cancel()

        await asyncio.gather(*(one(number) for number in range(100)))
        await asyncio.to_thread(
            sidecar.await_status, "nothing is left", in_flight_slots=0, queued_requests=0
        )


async def test_drain_finishes_what_runs_and_then_refuses(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path: Path
) -> None:
    # It waits until the connections of clients that have called have aged.
    config = msgspec.structs.replace(static_config(engine_latency, otlp), drain_timeout_s=90.0)
    sidecar = SidecarProcess(config, tmp_path)
    await asyncio.to_thread(sidecar.__enter__)
    try:
        async with grpc_stub(sidecar) as stub, grpc.aio.insecure_channel(sidecar.grpc) as channel:
            health: Any = HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == 1  # SERVING
            running = asyncio.create_task(generated(stub, generate_request(900)))
            await asyncio.to_thread(sidecar.await_status, "it runs", in_flight_slots=1)
            drain = asyncio.create_task(
                asyncio.to_thread(urllib.request.urlopen, f"{sidecar.admin}/drain", timeout=90)
            )
            assert (await asyncio.wait_for(watch.read(), 5)).status == 2  # NOT_SERVING
            early = await generated(stub, generate_request(2))  # endpoints still propagate
            assert early[-1].finished.usage.completion_tokens == 2
            with await drain as response:
                assert response.read() == b'{"drained":true}'
            assert (await running)[-1].finished.usage.completion_tokens == 900
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await generated(stub, generate_request(2))
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            watch.cancel()
    finally:
        await asyncio.to_thread(sidecar.__exit__, None, None, None)
