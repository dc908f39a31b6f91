"""A gRPC door that listens, with a scripted pipeline behind it and a client's view of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
from fakes.pipeline import ScriptedAnswer, ScriptedPipeline
from llmservice_api.sidecar_config import ListenConfig, ModelConfig, SecurityConfig
from llmservice_sidecar.adapters.door_security import DoorSecurity
from llmservice_sidecar.adapters.grpc_door import GrpcDoor
from llmservice_sidecar.adapters.grpc_service import InferenceService
from llmservice_sidecar.adapters.openai_request import OpenAIRequests
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)

Stub = Any  # the generated stub has no types
REQUEST = pb.GenerateRequest(text="once", request_id="r1")
ANSWER = (
    b'data: {"model": "tiny", "choices": [{"index": 0, "text": "upon"}]}\n\n',
    b'data: {"choices": [{"index": 0, "text": " a", "finish_reason": "stop"}]}\n\n',
    b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n',
    b"data: [DONE]\n\n",
)


class SwitchedReadiness:
    """Ready until told otherwise."""

    def __init__(self) -> None:
        self._watchers: list[Callable[[bool], None]] = []

    def watch(self, callback: Callable[[bool], None]) -> None:
        self._watchers.append(callback)
        callback(True)

    def become(self, *, ready: bool) -> None:
        for watcher in self._watchers:
            watcher(ready)


def answered(*, error: Exception | None = None) -> ScriptedPipeline:
    answer = ScriptedAnswer(ANSWER, error=error)
    answer.go_on.set()
    return ScriptedPipeline(answer)


@dataclass(frozen=True)
class OpenDoor:
    """A client's view of a door that listens."""

    stub: Stub
    channel: grpc.aio.Channel
    port: int
    server: GrpcDoor
    security: DoorSecurity


@asynccontextmanager
async def door(
    pipeline: ScriptedPipeline,
    readiness: SwitchedReadiness | None = None,
    *,
    security: SecurityConfig | None = None,
) -> AsyncGenerator[OpenDoor]:
    requests = OpenAIRequests(model=ModelConfig(name="tiny"), allowed_extra_args=["out_len"])
    guard = DoorSecurity(security or SecurityConfig(), tenant_header="X-Tenant")
    service = InferenceService(pipeline, requests, model="tiny")
    server = GrpcDoor(
        service,
        readiness or SwitchedReadiness(),
        listen=ListenConfig(host="127.0.0.1", grpc_port=0),
        security=guard,
    )
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield OpenDoor(InferenceServiceStub(channel), channel, server.port, server, guard)
    finally:
        await server.close()
