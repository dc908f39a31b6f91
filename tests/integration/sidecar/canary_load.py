"""A thousand prompts, each with a canary wherever text of a client may stand."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import grpc.aio
import pytest
from google.protobuf.struct_pb2 import Struct
from integration.sidecar.loud_sidecar import FAULT
from integration.sidecar.running import SidecarProcess
from llmservice_api.names import GRPC_SERVICE
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)

CANARY: Final = "zebra-4711-canary"
AT_ONCE: Final = 16
CHAT: Final = "/v1/chat/completions"


def sentence(number: int) -> str:
    """Prompt text: no name of a thing, so nothing that could be taken for a label."""
    return f"tell me of {CANARY} {number}"


def bodies(text: str) -> Iterator[tuple[str, Any]]:
    """Requests over HTTP, good and bad; bytes are sent as they are."""
    said = [{"role": "system", "content": text}, {"role": "user", "content": text, "name": "me"}]
    chat = {"model": "tiny", "messages": said, "max_tokens": 9, "vllm_xargs": {"out_len": 3}}
    tool = {"type": "function", "function": {"name": "look", "description": text}}
    bad_tool = {"type": "function", "function": {"name": text, "parameters": {"type": text}}}
    yield CHAT, chat
    yield CHAT, {**chat, "stream": True, "user": text, "metadata": {"about": text}}
    yield CHAT, {**chat, "stop": [text], "safety_identifier": text, "prompt_cache_key": text}
    yield CHAT, {**chat, "tools": [tool], "tool_choice": "auto"}
    yield CHAT, {**chat, "tools": [bad_tool], "tool_choice": {"type": text}}
    yield CHAT, {**chat, "chat_template_kwargs": {"about": text}, "reasoning_effort": text}
    yield CHAT, {**chat, "structured_outputs": {"regex": f"({text}"}}
    yield CHAT, {**chat, "response_format": {"type": text}}
    yield CHAT, {**chat, "temperature": -1, "stop": text}
    yield CHAT, {**chat, "messages": [{"role": text, "content": [{"type": text, "text": text}]}]}
    yield CHAT, {**chat, "messages": text}
    yield CHAT, {**chat, text: text}
    yield CHAT, {**chat, "model": text}
    yield CHAT, {**chat, "vllm_xargs": {text: text}}
    yield CHAT, {**chat, "user": FAULT}
    yield CHAT, json.dumps(chat)[:-5].encode()
    yield CHAT, b'{"messages": "' + text.encode() + b'\xff"}'
    yield CHAT, json.dumps(text).encode()
    yield "/v1/completions", {"model": "tiny", "prompt": [text, text], "max_tokens": 3}
    yield "/v1/completions", {"model": "tiny", "prompt": text, "suffix": text, "max_tokens": 3}
    yield "/v1/completions", {"model": "tiny", "prompt": text * 600, "max_tokens": 3}
    yield "/v1/responses", {"model": "tiny", "input": text, "instructions": text}
    yield "/tokenize", {"model": "tiny", "prompt": text}
    yield "/tokenize", {"prompt": text, text: text}
    yield f"/v1/{text}", chat
    yield f"/v1/models?about={text}", chat


def calls(text: str) -> Iterator[pb.GenerateRequest]:
    """Requests over gRPC, good and bad."""
    sampling = pb.SamplingParams(max_tokens=9)
    length = {"out_len": "3"}
    message = pb.ChatMessage(role="user", content=text, name="me")
    tool = Struct()
    tool.update({"type": "function", "function": {"name": "look", "description": text}})
    yield pb.GenerateRequest(text=text, sampling=sampling, extra_args=length)
    yield pb.GenerateRequest(
        chat=pb.ChatPrompt(messages=[message], tools=[tool]), sampling=sampling, extra_args=length
    )
    yield pb.GenerateRequest(text=text, sampling=pb.SamplingParams(stop=[text], temperature=-1))
    yield pb.GenerateRequest(text=text, model=text)
    yield pb.GenerateRequest(text=text, request_id=text, sampling=sampling, extra_args=length)
    yield pb.GenerateRequest(text=text, priority=text)
    yield pb.GenerateRequest(text=text, extra_args={text: text})
    yield pb.GenerateRequest(text=text * 600)


@dataclass
class CanaryLoad:
    """Sends prompts to one sidecar and counts them. `answers` is what clients were told."""

    sidecar: SidecarProcess
    first: int = 0
    sent: int = 0
    told: list[bytes] = field(default_factory=list[bytes])

    async def run(self, prompts: int) -> None:
        """So many, of all kinds in turn, some of them left by their clients."""
        turns = asyncio.Semaphore(AT_ONCE)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            grpc.aio.insecure_channel(self.sidecar.grpc) as channel,
        ):
            kinds = itertools.cycle(range(len([*bodies("")]) + len([*calls("")])))

            async def one(number: int, kind: int) -> None:
                async with turns:
                    await self._send(session, channel, number, kind)

            numbers = range(self.first, self.first + prompts)
            await asyncio.gather(*map(one, numbers, kinds))
            await self._unscheduled(channel, sentence(self.first))
        await self._no_http(sentence(self.first))

    async def _send(
        self, session: aiohttp.ClientSession, channel: grpc.aio.Channel, number: int, kind: int
    ) -> None:
        self.sent += 1
        text, rpcs = sentence(number), len([*calls("")])
        impatient = number % 11 == 0
        if kind < rpcs:
            await self._call(channel, [*calls(text)][kind], text, impatient=impatient)
        else:
            path, body = [*bodies(text)][kind - rpcs]
            await self._post(session, path, body, text=text, impatient=impatient)

    async def _post(
        self, session: aiohttp.ClientSession, path: str, body: Any, *, text: str, impatient: bool
    ) -> None:
        headers = {
            "content-type": "application/json",
            "user-agent": text,
            "baggage": f"about={text}",
            "cookie": text,
            "authorization": text,
            "x-request-id": text,
            "x-anything": text,
        }
        if impatient:
            headers["x-request-timeout-ms"] = "20"
        elif len(self.told) % 13 == 0:
            headers["x-llmservice-priority"] = text
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{self.sidecar.http}{path}"
        try:
            async with session.post(url, data=data, headers=headers) as response:
                self.told.append(await response.read())
        except aiohttp.ClientError:
            self.told.append(b"")  # the answer broke off, as the engine's did

    async def _call(
        self, channel: grpc.aio.Channel, request: pb.GenerateRequest, text: str, *, impatient: bool
    ) -> None:
        stub: Any = InferenceServiceStub(channel)
        metadata = (("about", text), ("x-request-id", text), ("baggage", f"about={text}"))
        call = stub.Generate(request, metadata=metadata, timeout=0.05 if impatient else None)
        try:
            async for event in call:
                self.told.append(event.SerializeToString())
        except grpc.aio.AioRpcError as error:
            self.told.append(str(error.details()).encode())

    async def _unscheduled(self, channel: grpc.aio.Channel, text: str) -> None:
        stub: Any = InferenceServiceStub(channel)
        await stub.Predict(pb.PredictRequest(request=pb.GenerateRequest(text=text)))
        await stub.GetQueue(pb.GetQueueRequest(request_id=text))
        anything: Any = channel  # what it makes of methods without a message has no type
        unknown = anything.unary_unary(f"/{GRPC_SERVICE}/{CANARY}")
        with pytest.raises(grpc.aio.AioRpcError):
            await unknown(text.encode())

    async def _no_http(self, text: str) -> None:
        for line in (text, f"GET /{text}", f"POST {CHAT} HTTP/1.1\r\n{text}"):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.sidecar.ports.http_port
            )
            writer.write(f"{line}\r\n\r\n".encode())
            await reader.read()
            writer.close()
