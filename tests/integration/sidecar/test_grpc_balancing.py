"""A real gRPC client that balances over the addresses of the headless Service."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
from integration.sidecar.grpc_doors import REQUEST, answered, door
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)

# As docs/routing.md has it; there dns:///<name>-headless... resolves to the addresses.
CONFIG = (("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),)


async def test_calls_go_round_the_replicas_and_past_one_that_leaves() -> None:
    pipelines = [answered(), answered()]
    async with AsyncExitStack() as stack:
        doors = [await stack.enter_async_context(door(pipeline)) for pipeline in pipelines]
        target = "ipv4:" + ",".join(f"127.0.0.1:{opened.port}" for opened in doors)
        channel = grpc.aio.insecure_channel(target, options=CONFIG)
        stub: Any = InferenceServiceStub(await stack.enter_async_context(channel))
        for _ in range(12):
            await complete(stub)
        shares = [len(pipeline.calls) for pipeline in pipelines]
        assert min(shares) >= 3, "the first calls may find only one address connected"
        doors[0].server.part(leaving=True)
        # A drain parts when nothing comes: a call of that very moment may be cancelled.
        await asyncio.sleep(1.0)
        for _ in range(12):
            await complete(stub)
        assert len(pipelines[1].calls) > shares[1] + 6


async def complete(stub: Any) -> None:
    messages = [message async for message in stub.Generate(REQUEST, wait_for_ready=True)]
    assert messages[-1].HasField("finished")
