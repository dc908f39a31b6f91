"""Clients of a running sidecar, as short as tests want them. Every prompt carries the canary."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import grpc.aio
from integration.sidecar.running import SidecarProcess
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)

CANARY: Final = "zebra-4711-canary"
CLIENT_SPAN: Final = "b7ad6b7169203331"


@dataclass(frozen=True)
class ClientTrace:
    """A trace that the client has begun."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def headers(self) -> dict[str, str]:
        """W3C trace context, sampled."""
        return {"traceparent": f"00-{self.id}-{CLIENT_SPAN}-01"}

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The same for gRPC."""
        return tuple(self.headers.items())


def chat_body(out_len: int, **fields: object) -> dict[str, Any]:
    """A chat completion of exactly `out_len` tokens."""
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"tell me of {CANARY}"}],
        "max_tokens": 1000,
        "vllm_xargs": {"out_len": out_len},
        **fields,
    }


def generate_request(out_len: int, **fields: Any) -> pb.GenerateRequest:
    """A gRPC text generation of exactly `out_len` tokens."""
    return pb.GenerateRequest(
        text=f"tell me of {CANARY}",
        sampling=pb.SamplingParams(max_tokens=1000),
        extra_args={"out_len": str(out_len)},
        **fields,
    )


@asynccontextmanager
async def grpc_stub(sidecar: SidecarProcess) -> AsyncGenerator[Any]:
    """A stub on a channel of its own (the generated stub has no types)."""
    async with grpc.aio.insecure_channel(sidecar.grpc) as channel:
        yield InferenceServiceStub(channel)


async def post_chat(
    sidecar: SidecarProcess, body: dict[str, Any], headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of one call to the OpenAI door."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sidecar.http}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        return response.status, dict(response.headers), await response.json()


@asynccontextmanager
async def occupied(
    sidecar: SidecarProcess, *, running: int, queued: int = 0, out_len: int = 600
) -> AsyncGenerator[None]:
    """Keep so many requests running and queued for the block, then cancel them all."""
    calls = [
        asyncio.create_task(post_chat(sidecar, chat_body(out_len))) for _ in range(running + queued)
    ]
    try:
        await asyncio.to_thread(
            sidecar.await_status,
            "slots and queue are filled",
            in_flight_slots=running,
            queued_requests=queued,
        )
        yield
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.to_thread(
            sidecar.await_status, "all have left", in_flight_slots=0, queued_requests=0
        )
