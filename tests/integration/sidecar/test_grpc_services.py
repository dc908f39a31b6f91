"""What the gRPC door serves beside answers: predictions, the queue, health, reflection."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from fakes.pipeline import ScriptedAnswer, ScriptedPipeline
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from integration.sidecar.grpc_doors import (
    ANSWER,
    REQUEST,
    SwitchedReadiness,
    answered,
    door,
)
from llmservice_api.names import GRPC_SERVICE
from llmservice_api.sidecar_config import ListenConfig, ModelConfig, SecurityConfig
from llmservice_sidecar.adapters.door_security import DoorSecurity
from llmservice_sidecar.adapters.grpc_door import GrpcDoor
from llmservice_sidecar.adapters.grpc_service import InferenceService
from llmservice_sidecar.adapters.openai_request import OpenAIRequests
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb


async def test_predict_and_queue_answer_without_queueing() -> None:
    pipeline = answered()
    async with door(pipeline) as opened:
        prediction = await opened.stub.Predict(pb.PredictRequest(request=REQUEST))
        queue = await opened.stub.GetQueue(pb.GetQueueRequest())
    assert (prediction.output_tokens, prediction.p90_tokens) == (len("once"), 99.0)
    assert (queue.policy, queue.order, queue.queued_requests) == ("SSJF", "FCFS", 3)
    assert queue.backlog.ToMilliseconds() == 1500
    assert not pipeline.calls


async def test_watching_the_queue_goes_on_until_the_client_stops() -> None:
    interval = Duration(nanos=100_000_000)
    async with door(answered()) as opened:
        call = opened.stub.WatchQueue(pb.WatchQueueRequest(interval=interval))
        states = [await asyncio.wait_for(call.read(), 5) for _ in range(3)]
        call.cancel()
    assert [state.limit_slots for state in states] == [4, 4, 4]


async def test_watching_too_often_is_refused() -> None:
    async with door(answered()) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await opened.stub.WatchQueue(pb.WatchQueueRequest(interval=Duration(nanos=1))).read()
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["", GRPC_SERVICE])
async def test_health_follows_readiness(name: str) -> None:
    readiness = SwitchedReadiness()
    async with door(answered(), readiness) as opened:
        health: Any = HealthStub(opened.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=name))
        assert (await asyncio.wait_for(watch.read(), 5)).status == 1  # SERVING
        readiness.become(ready=False)
        assert (await asyncio.wait_for(watch.read(), 5)).status == 2  # NOT_SERVING
        watch.cancel()


async def test_reflection_describes_the_service() -> None:
    async with door(answered()) as opened:

        def services() -> list[str]:
            with grpc.insecure_channel(f"127.0.0.1:{opened.port}") as plain:
                return list(ProtoReflectionDescriptorDatabase(plain).get_services())

        assert GRPC_SERVICE in await asyncio.to_thread(services)


async def test_parting_lets_calls_end_and_takes_no_new_connection() -> None:
    answer = ScriptedAnswer(ANSWER)
    async with door(ScriptedPipeline(answer)) as opened:
        running = aiter(opened.stub.Generate(REQUEST))
        assert (await asyncio.wait_for(anext(running), 5)).delta.text == "upon"
        opened.server.part(leaving=True)
        # A server that stops cancels the calls that arrive at that very moment.
        refused = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert await asyncio.wait_for(refusal(opened.stub), 5) in refused
        answer.go_on.set()
        rest = [response async for response in running]
        assert rest[-1].WhichOneof("event") == "finished"
        opened.server.part(leaving=False)
        queue = await opened.stub.GetQueue(pb.GetQueueRequest(), wait_for_ready=True, timeout=10)
        assert queue.policy == "SSJF"


async def test_drain_waits_for_the_connections_of_clients_that_have_called() -> None:
    async with door(answered()) as opened:
        assert opened.server.lingering_s() == 0.0
        await opened.stub.Predict(pb.PredictRequest(request=REQUEST))
        assert 10.0 < opened.server.lingering_s() <= 16.5


async def refusal(stub: Any) -> grpc.StatusCode:
    """Ask until it fails: what comes while clients are being sent elsewhere is still served."""
    while True:
        try:
            await stub.GetQueue(pb.GetQueueRequest())
        except grpc.aio.AioRpcError as error:
            return error.code()


async def test_a_taken_port_is_named() -> None:
    async with door(answered()) as opened:
        requests = OpenAIRequests(model=ModelConfig(name="tiny"), allowed_extra_args=[])
        guard = DoorSecurity(SecurityConfig(), tenant_header="t")
        service = InferenceService(answered(), requests, model="tiny")
        listen = ListenConfig(host="127.0.0.1", grpc_port=opened.port)
        second = GrpcDoor(service, SwitchedReadiness(), listen=listen, security=guard)
        with pytest.raises(OSError, match=f"cannot listen for gRPC on 127.0.0.1:{opened.port}"):
            await second.start()
