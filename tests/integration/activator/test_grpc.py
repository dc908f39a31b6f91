"""Calls over gRPC that come while their service sleeps, and how they reach a replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio
import pytest
from fakes.replica import EVENTS, FakeReplica
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from integration.activator.conftest import KEY, Bench, bench, until
from llmservice_api.activation import Replica
from llmservice_api.names import GRPC_SERVICE
from llmservice_sidecar.activator.grpc_door import GENERATE
from llmservice_sidecar.activator.grpc_forward import GrpcReplicas
from llmservice_sidecar.activator.hold import HoldLimits

PREDICT = f"/{GRPC_SERVICE}/Predict"
CODE = grpc.StatusCode


@pytest.fixture
async def channel(asleep: Bench) -> AsyncGenerator[Any]:
    async with grpc.aio.insecure_channel(asleep.grpc) as made:
        yield made


def generate(channel: Any, request: bytes = b"prompt", **options: Any) -> Any:
    """A call as bytes, so that nothing but the wire is assumed."""
    return channel.unary_stream(GENERATE)(request, **options)


async def answer_of(call: Any) -> list[bytes]:
    """All of its messages."""
    return [message async for message in call]


async def test_a_held_call_is_answered_byte_for_byte_with_its_metadata(
    asleep: Bench, channel: Any
) -> None:
    metadata = (("x-tenant", "a"), ("x-raw-bin", b"\xff\x00"), ("traceparent", "00-1-2-01"))
    call = generate(channel, b"\x0a\x05hello", metadata=metadata, timeout=60)
    await until(lambda: asleep.held() == 1)
    replica = FakeReplica()
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        assert await answer_of(call) == list(EVENTS)
        assert await call.code() is CODE.OK
        assert dict(await call.initial_metadata()) == {"x-first": "1", "x-bytes-bin": b"\x00\x01"}
        assert dict(await call.trailing_metadata()) == {"x-last": "9"}
    ((method, request, told),) = replica.calls
    assert (method, request) == (GENERATE, b"\x0a\x05hello")
    assert {key: told[key] for key, _ in metadata} == dict(metadata)
    assert 0 < told["remaining_s"] <= 60


async def test_a_thousand_held_calls_are_all_answered_in_the_order_of_their_arrival(
    asleep: Bench, channel: Any
) -> None:
    await channel.channel_ready()  # calls made before go in no order
    calls: list[asyncio.Task[list[bytes]]] = []
    for number in range(1000):
        calls.append(asyncio.create_task(answer_of(generate(channel, b"%d" % number))))
        if number % 50 == 49:
            await until(lambda: asleep.held() == len(calls))
    replica = FakeReplica()
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        assert await asyncio.gather(*calls) == [list(EVENTS)] * 1000
    came = [int(request) for _, request, _ in replica.calls]
    print(came)
    assert sorted(came) == list(range(1000))
    assert [n // 50 for n in came] == sorted(n // 50 for n in came)


async def test_messages_are_passed_on_as_they_come(asleep: Bench, channel: Any) -> None:
    replica = FakeReplica(slow=True)
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        call = generate(channel)
        assert await call.read() == EVENTS[0]
        replica.release.set()
        assert [await call.read(), await call.read()] == [EVENTS[1], EVENTS[2]]


async def test_a_replicas_error_is_the_clients_with_its_trailers(
    asleep: Bench, channel: Any
) -> None:
    replica = FakeReplica(on_call=lambda: (CODE.INVALID_ARGUMENT, "no prompt"))
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        await until(lambda: asleep.activator.doors.awake(KEY))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer_of(generate(channel))
    error = caught.value
    assert (error.code(), error.details()) == (CODE.INVALID_ARGUMENT, "no prompt")
    assert dict(error.trailing_metadata())["x-why"] == "told"


async def test_health_and_reflection_let_the_model_sleep(asleep: Bench, channel: Any) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", GRPC_SERVICE):
        checked = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async for listed in stub.ServerReflectionInfo(iter([asked])):
        names = {service.name for service in listed.list_services_response.service}
        assert GRPC_SERVICE in names
    assert asleep.held() == 0


async def test_only_generate_wakes(asleep: Bench, channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(PREDICT)(b"")
    assert caught.value.code() is CODE.UNAVAILABLE
    assert "does not wake" in (caught.value.details() or "")
    assert asleep.held() == 0


async def test_a_ready_replica_answers_every_method(asleep: Bench, channel: Any) -> None:
    replica = FakeReplica()
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        await until(lambda: asleep.activator.doors.awake(KEY))
        assert await answer_of(channel.unary_stream(PREDICT)(b"")) == list(EVENTS)
    assert replica.calls[0][0] == PREDICT


async def test_a_client_that_cancels_gives_up_its_place_at_once(
    asleep: Bench, channel: Any
) -> None:
    call = generate(channel)
    await until(lambda: asleep.held() == 1)
    call.cancel()
    await until(lambda: asleep.held() == 0)
    assert asleep.activator.report().held_bytes == 0


async def test_a_client_that_cancels_ends_the_replicas_answer(asleep: Bench, channel: Any) -> None:
    replica = FakeReplica(slow=True)
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        call = generate(channel)
        await call.read()
        call.cancel()
        await until(lambda: replica.aborted == 1)


async def test_a_clients_own_deadline_ends_its_waiting(asleep: Bench, channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer_of(generate(channel, timeout=0.2))
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    await until(lambda: asleep.held() == 0)


async def test_a_call_waits_no_longer_than_is_allowed() -> None:
    async with (
        bench(HoldLimits(hold_s=0.1)) as asleep,
        grpc.aio.insecure_channel(asleep.grpc) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer_of(generate(channel))
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED


async def test_one_call_more_than_may_wait_is_told_when_to_come_back() -> None:
    async with (
        bench(HoldLimits(max_held=1)) as asleep,
        grpc.aio.insecure_channel(asleep.grpc) as channel,
    ):
        held = generate(channel)
        await until(lambda: asleep.held() == 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer_of(generate(channel))
        held.cancel()
    trailers: dict[str, Any] = dict(caught.value.trailing_metadata())
    assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
    assert int(trailers["grpc-retry-pushback-ms"]) >= 1000
    status = Status.FromString(trailers["grpc-status-details-bin"])
    kinds = [detail.TypeName() for detail in status.details]
    assert RetryInfo.DESCRIPTOR.full_name in kinds


async def test_a_replica_that_ends_hands_its_calls_to_another(asleep: Bench, channel: Any) -> None:
    leaving = FakeReplica(on_call=lambda: (CODE.UNAVAILABLE, "draining"))
    staying = FakeReplica()
    nobody = Replica("127.0.0.1:9", "127.0.0.1:9")
    async with leaving.running() as first, staying.running() as second:
        asleep.operator.tell("chat", first, nobody, second)
        await until(lambda: asleep.activator.doors.awake(KEY))
        for _ in range(3):
            assert await answer_of(generate(channel)) == list(EVENTS)
    assert len(staying.calls) == 3


async def test_a_crowd_that_the_activator_made_is_let_in_little_by_little(
    asleep: Bench, channel: Any
) -> None:
    refusals = [(CODE.RESOURCE_EXHAUSTED, "full")] * 2
    replica = FakeReplica(on_call=lambda: refusals.pop() if refusals else None)
    calls = [asyncio.create_task(answer_of(generate(channel))) for _ in range(5)]
    await until(lambda: asleep.held() == 5)
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        assert await asyncio.gather(*calls) == [list(EVENTS)] * 5


async def test_overload_of_a_service_that_is_awake_is_the_clients_to_hear(
    asleep: Bench, channel: Any
) -> None:
    replica = FakeReplica(on_call=lambda: (CODE.RESOURCE_EXHAUSTED, "full"))
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        await until(lambda: asleep.activator.doors.awake(KEY))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer_of(generate(channel))
    assert caught.value.code() is CODE.RESOURCE_EXHAUSTED


async def test_a_replica_that_is_gone_leaves_no_connection_behind() -> None:
    replicas = GrpcReplicas()
    replica = FakeReplica()
    async with replica.running() as address:
        async with replicas.ask(address.grpc, GENERATE, b"", metadata=(), timeout_s=None) as call:
            await replicas.keep(())
            assert list(replicas.addresses) == [address.grpc], "its calls go on"
            assert await call.read() == EVENTS[0]
        await replicas.keep({address.grpc})
        assert list(replicas.addresses) == [address.grpc]
        await replicas.keep(())
        assert list(replicas.addresses) == []
    await replicas.close()
