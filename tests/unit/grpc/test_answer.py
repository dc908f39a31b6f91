"""The engine's event stream, cut anywhere, as typed messages."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import MessageToDict
from llmservice_sidecar.adapters.grpc_answer import AnswerReader
from llmservice_sidecar.core.errors import EngineError
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps({"id": "x", "object": "chunk", **fields}).encode() + b"\n\n"


COMPLETION = b"".join(
    (
        event(model="tiny", choices=[{"index": 0, "text": "on", "token_ids": [7, 8]}]),
        event(model="tiny", choices=[{"index": 1, "text": "hé", "finish_reason": None}]),
        event(model="tiny", choices=[{"index": 0, "text": "ce", "finish_reason": "stop"}]),
        event(
            model="tiny",
            choices=[],
            usage={
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "total_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 2},
            },
        ),
        b"data: [DONE]\n\n",
    )
)


def read(data: bytes, *, size: int) -> tuple[list[pb.Delta], AnswerReader]:
    reader = AnswerReader()
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return [delta for piece in pieces for delta in reader.feed(piece)], reader


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_deltas_do_not_depend_on_how_the_bytes_were_cut(size: int) -> None:
    deltas, reader = read(COMPLETION, size=size)
    assert deltas == [
        pb.Delta(index=0, text="on", token_ids=[7, 8]),
        pb.Delta(index=1, text="hé"),
        pb.Delta(index=0, text="ce", finish_reason="stop"),
    ]
    assert reader.usage == pb.Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=2)
    assert reader.model == "tiny"


def test_chat_deltas_carry_content_reasoning_and_tool_calls() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": "{"}}
    data = b"".join(
        event(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        for delta in (
            {"role": "assistant", "content": ""},
            {"reasoning": "hm"},
            {"content": "hi"},
            {"tool_calls": [call]},
        )
    )
    deltas, _ = read(data, size=10_000)
    assert [MessageToDict(delta) for delta in deltas] == [
        {"reasoning": "hm"},
        {"text": "hi"},
        {"toolCalls": [{"index": 0.0, "function": {"name": "f", "arguments": "{"}}]},
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'data: {"error": {"message": "KV is gone"}}\n\n', "the engine failed while it generated"),
        (b"data: <html>\n\n", "an event that is no completion"),
    ],
)
def test_what_is_no_completion_is_an_engine_error(data: bytes, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        read(data, size=1000)
