"""The gRPC door with a real client; what happens behind the door is scripted."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from fakes.pipeline import ScriptedAnswer, ScriptedPipeline
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from integration.sidecar.grpc_doors import (
    ANSWER,
    REQUEST,
    Stub,
    answered,
    door,
)
from llmservice_api.names import GRPC_SERVICE
from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.errors import (
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    LLMServiceError,
    Reason,
    RequestEvicted,
    RequestRejected,
)
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)
from opentelemetry import trace

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SECOND_IN_LINE = Standing(key=(1.0,), position=1, depth=2, gamma_per_s=0.1)


async def collect(call: Any) -> list[pb.GenerateResponse]:
    messages: list[pb.GenerateResponse] = []
    while message := await call.read():  # the end is falsy, no message is
        messages.append(message)
    return messages


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The status details by their type's short name."""
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    found: dict[str, Any] = {}
    for packed in Status.FromString(raw).details:
        for kind in (BadRequest, ErrorInfo, RetryInfo):
            if packed.TypeName() == kind.DESCRIPTOR.full_name:
                message = kind()
                packed.Unpack(message)
                found[kind.DESCRIPTOR.name] = message
    return found


async def test_answer_streams_as_deltas_and_ends_with_usage_and_timings() -> None:
    pipeline = answered()
    async with door(pipeline) as opened:
        call = opened.stub.Generate(REQUEST)
        messages = await collect(call)
        headers = dict(await call.initial_metadata())
    assert [m.WhichOneof("event") for m in messages] == ["delta", "delta", "finished"]
    assert "".join(m.delta.text for m in messages) == "upon a"
    assert messages[1].delta.finish_reason == "stop"
    finished = messages[-1].finished
    assert (finished.request_id, finished.model) == ("r1", "tiny")
    assert finished.usage == pb.Usage(prompt_tokens=3, completion_tokens=2)
    assert finished.timings.queue_wait.ToMilliseconds() == 250
    assert finished.timings.total.ToMicroseconds() > 0
    assert (headers["x-request-id"], headers["x-llmservice-queue-ms"]) == ("r1", "250")


async def test_queued_call_is_told_its_place_at_once_and_served_in_its_turn() -> None:
    pipeline = answered()
    pipeline.standing = SECOND_IN_LINE
    async with door(pipeline) as opened:
        call = opened.stub.Generate(REQUEST)
        first = await asyncio.wait_for(call.read(), 5)
        assert first.queued.position == 1
        assert first.queued.depth == 2
        assert first.queued.eta == Duration(seconds=1, nanos=500_000_000)
        pipeline.turn.set()
        rest = await collect(call)
    assert [m.WhichOneof("event") for m in rest] == ["delta", "delta", "finished"]


async def test_cancel_leaves_the_queue_at_once() -> None:
    pipeline = answered()
    pipeline.standing = SECOND_IN_LINE
    async with door(pipeline) as opened:
        call = opened.stub.Generate(REQUEST)
        await asyncio.wait_for(call.read(), 5)
        call.cancel()
        await asyncio.wait_for(pipeline.ended.wait(), 2)
    assert isinstance(pipeline.ended_by, asyncio.CancelledError)


async def test_cancel_while_the_engine_works_ends_the_call_behind_the_door() -> None:
    pipeline = ScriptedPipeline(ScriptedAnswer(ANSWER[:1]))
    async with door(pipeline) as opened:
        call = opened.stub.Generate(REQUEST)
        await asyncio.wait_for(call.read(), 5)
        call.cancel()
        await asyncio.wait_for(pipeline.ended.wait(), 2)
    assert isinstance(pipeline.ended_by, asyncio.CancelledError)


async def test_client_that_vanishes_with_its_connection_is_noticed() -> None:
    pipeline = ScriptedPipeline(ScriptedAnswer(ANSWER[:1]))
    async with door(pipeline) as opened:
        call = opened.stub.Generate(REQUEST)
        await asyncio.wait_for(call.read(), 5)
        await opened.channel.close()
        await asyncio.wait_for(pipeline.ended.wait(), 5)
    assert isinstance(pipeline.ended_by, asyncio.CancelledError)


async def test_quiet_queued_call_survives_a_client_that_pings() -> None:
    pipeline = answered()
    pipeline.standing = SECOND_IN_LINE
    pings = (("grpc.keepalive_time_ms", 1100), ("grpc.http2.max_pings_without_data", 0))
    async with door(pipeline) as opened:
        target = f"127.0.0.1:{opened.port}"
        async with grpc.aio.insecure_channel(target, options=pings) as channel:
            stub: Stub = InferenceServiceStub(channel)
            call = stub.Generate(REQUEST)
            await call.read()
            waiting = asyncio.create_task(call.read())
            # gRPC's default ends the connection at the third ping.
            done, _ = await asyncio.wait({waiting}, timeout=4.5)
            assert not done
            pipeline.turn.set()
            assert (await waiting).delta.text == "upon"


async def test_pipeline_knows_a_deadline_a_little_shorter_than_the_clients() -> None:
    pipeline = answered()
    async with door(pipeline) as opened:
        await collect(opened.stub.Generate(REQUEST, timeout=5))
        await collect(opened.stub.Generate(REQUEST))
    with_deadline, without = pipeline.calls
    assert with_deadline.timeout_s is not None
    assert 3.0 < with_deadline.timeout_s < 4.99
    assert without.timeout_s is None


async def test_request_tells_tenant_parent_and_engine_arguments() -> None:
    pipeline = answered()
    metadata = (("x-tenant", "blue"), ("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01"))
    request = pb.GenerateRequest(text="x", extra_args={"out_len": "12"}, return_token_ids=True)
    async with door(pipeline) as opened:
        await collect(opened.stub.Generate(request, metadata=metadata))
    (call,), (parent,) = pipeline.calls, pipeline.parents
    assert call.tenant == "blue"
    assert call.body["vllm_xargs"] == {"out_len": 12}
    assert call.body["return_token_ids"] is True
    assert call.request_id, "the service chooses an id"
    span = trace.get_current_span(parent).get_span_context()
    assert trace.format_trace_id(span.trace_id) == TRACE_ID
    assert pipeline.doors[0].name == f"{GRPC_SERVICE}/Generate"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestRejected(Reason.DRAINING, "leaving"), grpc.StatusCode.UNAVAILABLE),
        (RequestEvicted(Reason.QUEUE_TIMEOUT, "too long"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (EngineUnavailable(Reason.ENGINE_DOWN, "no engine"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_error_becomes_its_status(error: LLMServiceError, code: grpc.StatusCode) -> None:
    pipeline = answered()
    pipeline.error = error
    async with door(pipeline) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await collect(opened.stub.Generate(REQUEST))
    assert (failed.value.code(), failed.value.details()) == (code, str(error))
    assert details(failed.value)["ErrorInfo"].reason == error.reason.upper()


async def test_overload_tells_when_to_come_back() -> None:
    pipeline = answered()
    pipeline.error = RequestRejected(Reason.QUEUE_FULL, "full", retry_after_s=1.5)
    async with door(pipeline) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await collect(opened.stub.Generate(REQUEST))
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(failed.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1500"
    assert details(failed.value)["RetryInfo"].retry_delay.ToMilliseconds() == 1500


@pytest.mark.parametrize(
    ("request_", "field", "code"),
    [
        (pb.GenerateRequest(), "prompt", grpc.StatusCode.INVALID_ARGUMENT),
        (
            pb.GenerateRequest(text="x", extra_args={"other": "1"}),
            "vllm_xargs.other",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (pb.GenerateRequest(text="x", model="gone"), "model", grpc.StatusCode.NOT_FOUND),
    ],
    ids=["no_prompt", "extra_argument_not_allowed", "unknown_model"],
)
async def test_invalid_request_names_the_field_and_is_accounted_for(
    request_: pb.GenerateRequest, field: str, code: grpc.StatusCode
) -> None:
    pipeline = answered()
    async with door(pipeline) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await collect(opened.stub.Generate(request_))
    assert failed.value.code() is code
    (violation,) = details(failed.value)["BadRequest"].field_violations
    assert violation.field == field
    assert [type(error) for error in pipeline.refused] == [InvalidRequest]


async def test_engine_that_breaks_off_fails_the_call_after_what_came() -> None:
    broken = EngineError(Reason.ENGINE_ERROR, "the engine broke off")
    pipeline = answered(error=broken)
    async with door(pipeline) as opened:
        call = opened.stub.Generate(REQUEST)
        assert (await call.read()).delta.text == "upon"
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await collect(call)
    assert failed.value.code() is grpc.StatusCode.INTERNAL


async def test_internal_error_says_nothing_of_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = answered(error=ValueError("canary prompt text"))
    async with door(pipeline) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await collect(opened.stub.Generate(REQUEST))
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text + str(failed.value.details())
