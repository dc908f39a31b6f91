"""Real clients, held by the activator, then served by a real sidecar in front of real vLLM."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import openai
from integration.activator.conftest import KEY, Bench, bench, until
from integration.sidecar.clients import chat_body, generate_request
from integration.sidecar.running import SidecarProcess
from llmservice_api.activation import Replica
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)

TOKENS = 12


def replica_of(sidecar: SidecarProcess) -> Replica:
    """The doors of a sidecar as the operator would name them."""
    return Replica(sidecar.http.removeprefix("http://"), sidecar.grpc)


async def streamed(client: openai.AsyncOpenAI) -> int:
    """The tokens of an answer that came to its end."""
    body = chat_body(TOKENS)
    stream = await client.chat.completions.create(
        model=body["model"],
        messages=body["messages"],
        max_tokens=body["max_tokens"],
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"vllm_xargs": body["vllm_xargs"]},
    )
    chunks = [chunk async for chunk in stream]
    usage = chunks[-1].usage
    assert usage is not None
    return usage.completion_tokens


async def generated(stub: Any) -> int:
    """The same over gRPC."""
    messages = [message async for message in stub.Generate(generate_request(TOKENS))]
    tokens: int = messages[-1].finished.usage.completion_tokens
    return tokens


def client_of(asleep: Bench) -> openai.AsyncOpenAI:
    """One that never tries again by itself."""
    return openai.AsyncOpenAI(base_url=f"{asleep.http}/v1", api_key="none", max_retries=0)


async def test_more_held_requests_than_the_queue_has_room_for_are_all_served(
    sidecar: SidecarProcess,
) -> None:
    async with (
        bench() as asleep,
        client_of(asleep) as client,
        grpc.aio.insecure_channel(asleep.grpc) as channel,
    ):
        stub = InferenceServiceStub(channel)
        waiting = [asyncio.create_task(streamed(client)) for _ in range(40)]
        waiting += [asyncio.create_task(generated(stub)) for _ in range(20)]
        await until(lambda: asleep.held() == 60)
        # Four slots and eight places: most of the crowd is refused at first.
        asleep.operator.tell("chat", replica_of(sidecar))
        assert await asyncio.gather(*waiting) == [TOKENS] * 60
        report = asleep.activator.report()
        assert (report.held, report.held_bytes) == ({}, 0)


async def test_a_ready_replica_answers_through_the_activator_as_by_itself(
    sidecar: SidecarProcess,
) -> None:
    async with bench() as asleep, client_of(asleep) as client:
        asleep.operator.tell("chat", replica_of(sidecar))
        await until(lambda: asleep.activator.doors.awake(KEY))
        assert [model.id async for model in client.models.list()] == ["tiny"]
        assert await streamed(client) == TOKENS
        for path in ("/health", "/metrics", "/nothing"):
            through = asleep.session.get(asleep.http + path)
            direct = asleep.session.get(sidecar.http + path)
            async with through as one, direct as other:
                assert (one.status, one.content_type) == (other.status, other.content_type)
