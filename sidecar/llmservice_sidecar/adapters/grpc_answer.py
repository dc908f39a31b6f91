"""The engine's event stream to gRPC messages. Knows nothing of queues and errors of ours but one.

An event that the engine's API does not promise is an EngineError, never skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from llmservice_sidecar.core.errors import EngineError, Reason
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

_EVENT_END: Final = b"\n\n"
_DATA: Final = b"data: "
_DONE: Final = b"[DONE]"
_FAILED: Final = "the engine failed while it generated; its own log has the cause"


class _DeltaBody(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    delta: _DeltaBody | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _CachedTokens(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _CachedTokens | None = None


class _Error(msgspec.Struct):
    """Its message is not read: it may quote the prompt, and errors reach traces."""


class _Event(msgspec.Struct):
    model: str = ""
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


class AnswerReader:
    """Feeds on bytes cut anywhere; gives deltas, and at the end knows usage and model."""

    def __init__(self) -> None:
        self.usage = pb.Usage()
        self.model = ""
        self._rest = b""
        self._decoder = msgspec.json.Decoder(_Event)

    def feed(self, chunk: bytes) -> Iterator[pb.Delta]:
        """The deltas of all events that are complete now. Raises EngineError."""
        *events, self._rest = (self._rest + chunk).split(_EVENT_END)
        for event in events:
            data = event.removeprefix(_DATA)
            if data != _DONE:
                yield from self._deltas(self._decode(data))

    def _decode(self, data: bytes) -> _Event:
        try:
            return self._decoder.decode(data)
        except msgspec.DecodeError as error:
            raise EngineError(
                Reason.ENGINE_ERROR, f"the engine sent an event that is no completion: {error}"
            ) from error

    def _deltas(self, event: _Event) -> Iterator[pb.Delta]:
        if event.error is not None:
            raise EngineError(Reason.ENGINE_ERROR, _FAILED)
        self.model = event.model or self.model
        if event.usage is not None:
            self.usage = _usage(event.usage)
        for choice in event.choices:
            delta = _delta(choice)
            if delta.ByteSize():  # the chat API's first event only names the role
                yield delta


def _delta(choice: _Choice) -> pb.Delta:
    body = choice.delta or _DeltaBody(content=choice.text)
    delta = pb.Delta(
        text=body.content or "",
        token_ids=choice.token_ids or (),
        finish_reason=choice.finish_reason or "",
        reasoning=body.reasoning or body.reasoning_content or "",
        tool_calls=[ParseDict(call, Struct()) for call in body.tool_calls or ()],
    )
    if delta.ByteSize():
        delta.index = choice.index
    return delta


def _usage(usage: _Usage) -> pb.Usage:
    details = usage.prompt_tokens_details or _CachedTokens()
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=details.cached_tokens or 0,
    )
