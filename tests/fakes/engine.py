"""An engine at the `Engine` seam: answers in OpenAI's stream format, a token every `step_s`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from llmservice_sidecar.core.errors import EngineUnavailable, Reason
from llmservice_sidecar.runtime.ports import EngineCall, EngineResponse


@dataclass
class FakeEngine:
    """Takes the length of an answer from `vllm_xargs.out_len`, as the forced-length processor."""

    step_s: float = 1.0
    up: bool = True
    status: int = 200
    break_after: int | None = None  # events until the connection breaks
    calls: list[EngineCall] = field(default_factory=list[EngineCall])
    running: int = 0
    peak: int = 0
    aborted: int = 0

    @contextlib.asynccontextmanager
    async def post(self, call: EngineCall) -> AsyncGenerator[EngineResponse]:
        """Answer a call."""
        if not self.up:
            raise EngineUnavailable(Reason.ENGINE_DOWN, "the fake engine is down")
        self.calls.append(call)
        response = _Response(self, json.loads(call.body))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            yield response
        finally:
            self.running -= 1
            self.aborted += not response.complete

    @contextlib.asynccontextmanager
    async def get(self, path: str) -> AsyncGenerator[EngineResponse]:
        """No page is served: the pipeline never asks for one."""
        raise EngineUnavailable(Reason.ENGINE_DOWN, f"the fake engine has no {path}")
        yield  # pragma: no cover

    async def healthy(self) -> bool:
        """Whether it is up."""
        return self.up

    def body(self, index: int = -1) -> dict[str, Any]:
        """The JSON of a call that was received."""
        body: dict[str, Any] = json.loads(self.calls[index].body)
        return body


class _Response:
    def __init__(self, engine: FakeEngine, body: dict[str, Any]) -> None:
        self._engine = engine
        self._body = body
        self._tokens = int(body.get("vllm_xargs", {}).get("out_len", 3))
        self.status = engine.status
        streams = engine.status == 200 and bool(body.get("stream"))
        self.content_type = "text/event-stream" if streams else "application/json"
        self.complete = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer."""
        events = self._stream() if self.content_type == "text/event-stream" else self._whole()
        for sent, event in enumerate(events):
            if sent == self._engine.break_after:
                raise EngineUnavailable(Reason.ENGINE_DOWN, "the connection broke")
            if sent < self._tokens:
                await asyncio.sleep(self._engine.step_s)
            yield event
        self.complete = True

    def _stream(self) -> list[bytes]:
        events = [_event({"choices": [{"text": f"t{i}"}]}) for i in range(self._tokens - 1)]
        events.append(_event({"choices": [{"text": "end", "finish_reason": "stop"}]}))
        if self._body.get("stream_options", {}).get("include_usage"):
            events.append(_event({"choices": [], "usage": self._usage()}))
        return [*events, b"data: [DONE]\n\n"]

    def _whole(self) -> list[bytes]:
        if self.status != 200:
            return [b'{"error":{"message":"refused by the engine"}}']
        body = {"choices": [{"text": "all", "finish_reason": "stop"}], "usage": self._usage()}
        return [json.dumps(body, separators=(",", ":")).encode()]

    def _usage(self) -> dict[str, int]:
        return {"prompt_tokens": 2, "completion_tokens": self._tokens}


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
