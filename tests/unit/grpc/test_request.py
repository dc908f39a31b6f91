"""A gRPC request and the OpenAI body that asks for the same."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from llmservice_sidecar.adapters.grpc_request import openai_request
from llmservice_sidecar.core.errors import InvalidRequest
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

STREAMED = {"model": "tiny", "stream": True, "stream_options": {"include_usage": True}}


def test_text_becomes_a_completion() -> None:
    path, body = openai_request(pb.GenerateRequest(text="once"), model="tiny")
    assert path == "/v1/completions"
    assert body == {**STREAMED, "prompt": "once"}


def test_token_ids_become_a_completion() -> None:
    request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=[1, 2]))
    path, body = openai_request(request, model="tiny")
    assert (path, body["prompt"]) == ("/v1/completions", [1, 2])


def test_messages_become_a_chat_completion() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"maxLength": 3}}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = pb.ChatPrompt(
        messages=[
            pb.ChatMessage(role="user", content="hi", name="ann"),
            pb.ChatMessage(role="assistant", tool_calls=[ParseDict(call, Struct())]),
            pb.ChatMessage(role="tool", content="7", tool_call_id="c1"),
        ],
        tools=[ParseDict(tool, Struct())],
        template_args=ParseDict({"enable_thinking": False}, Struct()),
    )
    path, body = openai_request(pb.GenerateRequest(chat=chat, model="lora"), model="tiny")
    assert path == "/v1/chat/completions"
    assert body == {
        **STREAMED,
        "model": "lora",
        "messages": [
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "7", "tool_call_id": "c1"},
        ],
        "tools": [tool],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    bound = body["tools"][0]["function"]["parameters"]["maxLength"]  # type: ignore[index] - JSON
    assert isinstance(bound, int), "a schema's bound is a whole number"


def test_only_what_is_set_is_sent_and_zero_is_set() -> None:
    sampling = pb.SamplingParams(temperature=0, seed=0, n=2, stop=["\n"], stop_token_ids=[5])
    _, body = openai_request(pb.GenerateRequest(text="x", sampling=sampling), model="tiny")
    assert body == {
        **STREAMED,
        "prompt": "x",
        "temperature": 0,
        "seed": 0,
        "n": 2,
        "stop": ["\n"],
        "stop_token_ids": [5],
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("0.5", 0.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("abc", "abc"),
        ('"12"', "12"),
        ("null", "null"),
        ("{}", "{}"),
        ("", ""),
    ],
)
def test_an_extra_argument_is_json_where_it_can_be(text: str, value: object) -> None:
    request = pb.GenerateRequest(text="x", extra_args={"k": text})
    _, body = openai_request(request, model="tiny")
    assert body["vllm_xargs"] == {"k": value}


def test_a_request_without_prompt_is_refused_by_field() -> None:
    with pytest.raises(InvalidRequest) as refused:
        openai_request(pb.GenerateRequest(), model="tiny")
    assert refused.value.param == "prompt"


def test_every_sampling_field_is_passed_on() -> None:
    fields = pb.SamplingParams.DESCRIPTOR.fields
    assert len(fields) > 10
    sampling = pb.SamplingParams(stop=["a"], stop_token_ids=[1])
    for field in fields:
        if field.has_presence:
            setattr(sampling, field.name, 1)
    _, body = openai_request(pb.GenerateRequest(text="x", sampling=sampling), model="tiny")
    assert {field.name for field in fields} <= set(body)
