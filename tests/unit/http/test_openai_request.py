"""Nothing that is not allowed by name reaches the engine, and errors name the field."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from llmservice_api.sidecar_config import ModelConfig
from llmservice_sidecar.adapters.openai_prompt import KEEP_BYTES
from llmservice_sidecar.adapters.openai_request import (
    ENDPOINTS,
    MAX_DEPTH,
    CallContext,
    OpenAIRequests,
)
from llmservice_sidecar.core.errors import InvalidRequest
from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime.call import InferenceCall
from llmservice_sidecar.runtime.ports import PredictionQuery

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
REQUESTS = OpenAIRequests(
    model=ModelConfig(name="m", adapters=("m-lora",)), allowed_extra_args=("out_len",)
)
HELLO = [{"role": "user", "content": "hello"}]
MINIMAL: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    COMPLETIONS: {"prompt": "hello"},
    RESPONSES: {"input": "hello"},
}


def parse(path: str, body: object) -> InferenceCall:
    return REQUESTS.parse(path, body, CallContext(request_id=RequestId("r")))


def refused(path: str, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(path, MINIMAL[path] | fields)
    return caught.value


def test_there_are_endpoints() -> None:
    assert set(ENDPOINTS) == set(MINIMAL)


@pytest.mark.parametrize("path", MINIMAL)
def test_the_body_is_passed_on_as_it_is(path: str) -> None:
    body = MINIMAL[path] | {"model": "m-lora", "temperature": None, "top_k": 5}
    call = parse(path, body)
    assert call.body == body
    assert call.query.model == "m-lora"


@pytest.mark.parametrize("path", MINIMAL)
@pytest.mark.parametrize(
    "name",
    [
        *(
            "priority",
            "chat_template",
            "mm_processor_kwargs",
            "add_generation_prompt",
            "cache_salt",
        ),
        *("request_id", "guided_json", "prompt_logprobs", "kv_transfer_params", "documents"),
        *("ignore_eos", "min_tokens", "use_beam_search", "__proto__", ""),
    ],
)
def test_a_field_that_is_not_allowed_is_named(path: str, name: str) -> None:
    error = refused(path, **{name: 1})
    assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("path", "fields", "param", "code"),
    [
        (CHAT, {"messages": "hi"}, "messages", "invalid_type"),
        (CHAT, {"messages": ["hi"]}, "messages", "invalid_type"),
        (CHAT, {"messages": []}, "messages", "invalid_value"),
        (CHAT, {"messages": None}, "messages", "missing_required_parameter"),
        (CHAT, {"messages": [{"content": 5}]}, "messages[0].content", "invalid_type"),
        (CHAT, {"n": 0}, "n", "invalid_type"),
        (CHAT, {"n": True}, "n", "invalid_type"),
        (CHAT, {"n": 10**6}, "n", "invalid_value"),
        (CHAT, {"max_tokens": "5"}, "max_tokens", "invalid_type"),
        (CHAT, {"stream": "yes"}, "stream", "invalid_type"),
        (CHAT, {"stop": [1]}, "stop", "invalid_type"),
        (CHAT, {"stream_options": {}}, None, None),
        (CHAT, {"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        (
            CHAT,
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            "unsupported_parameter",
        ),
        (CHAT, {"vllm_xargs": {"evil": 1}}, "vllm_xargs.evil", "unsupported_parameter"),
        (CHAT, {"vllm_xargs": [1]}, "vllm_xargs", "invalid_type"),
        (
            CHAT,
            {"chat_template_kwargs": {"chat_template": "{{ x }}"}},
            "chat_template_kwargs.chat_template",
            "unsupported_parameter",
        ),
        (CHAT, {"model": "other"}, "model", "model_not_found"),
        (CHAT, {"model": 5}, "model", "invalid_type"),
        (COMPLETIONS, {"prompt": []}, "prompt", "invalid_value"),
        (COMPLETIONS, {"prompt": [1, "a"]}, "prompt", "invalid_type"),
        (COMPLETIONS, {"prompt": {"a": 1}}, "prompt", "invalid_type"),
        (COMPLETIONS, {"prompt": ["a"] * 100, "n": 100}, "n", "invalid_value"),
        (RESPONSES, {"background": True}, "background", "unsupported_parameter"),
        (RESPONSES, {"input": 5}, "input", "invalid_type"),
    ],
)
def test_an_error_names_field_and_code(
    path: str, fields: dict[str, Any], param: str | None, code: str | None
) -> None:
    if code is None:
        parse(path, MINIMAL[path] | fields)
        return
    error = refused(path, **fields)
    assert (error.param, error.code) == (param, code)


def content(kind: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": kind, **fields}]}]


def test_the_engine_is_never_made_to_fetch_a_url() -> None:
    inline = {"url": "data:image/png;base64,AA=="}
    parse(CHAT, {"messages": content("image_url", image_url=inline)})
    error = refused(
        CHAT, messages=content("image_url", image_url={"url": "http://10.0.0.1/metadata"})
    )
    assert error.param == "messages[0].content[0].image_url.url"
    assert refused(CHAT, messages=content("video_url")).param == "messages[0].content[0].type"


@pytest.mark.parametrize(
    ("path", "fields", "slots"),
    [
        (CHAT, {}, 1),
        (CHAT, {"n": 3}, 3),
        (COMPLETIONS, {"prompt": ["a", "b"]}, 2),
        (COMPLETIONS, {"prompt": ["a", "b"], "n": 2}, 4),
        (COMPLETIONS, {"prompt": [[1, 2], [3]], "n": 1, "best_of": 4}, 8),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, 1),
    ],
)
def test_slots_are_answers_times_prompts(path: str, fields: dict[str, Any], slots: int) -> None:
    assert parse(path, MINIMAL[path] | fields).slots == slots


@pytest.mark.parametrize("body", [None, 5, "x", [], [{}]])
def test_the_body_must_be_an_object(body: object) -> None:
    with pytest.raises(InvalidRequest, match="JSON object"):
        parse(CHAT, body)


def test_deep_nesting_is_refused() -> None:
    deep: object = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="nested deeper"):
        parse(CHAT, MINIMAL[CHAT] | {"metadata": {"a": deep}})


def test_no_type_that_a_predictor_sees_can_hold_the_length() -> None:
    names = {field.name for field in dataclasses.fields(PredictionQuery)}
    assert not {name for name in names if "out" in name or "len" in name}
    call = parse(CHAT, MINIMAL[CHAT] | {"vllm_xargs": {"out_len": 98765}, "max_tokens": 7})
    assert "98765" not in repr(call.query)
    assert "98765" in repr(call.body)


def test_the_query_describes_the_request() -> None:
    messages = [{"role": "system", "content": "be brief"}, *HELLO]
    schema: dict[str, Any] = {"type": "json_schema", "json_schema": {}}
    call = parse(
        CHAT,
        {
            "messages": messages,
            "max_completion_tokens": 50,
            "max_tokens": 70,
            "tools": [{"type": "function"}],
            "response_format": schema,
        },
    )
    assert call.query == PredictionQuery(
        text="be brief\nhello",
        prompt_tokens=3,
        endpoint="chat",
        model="m",
        max_tokens=50,
        turns=2,
        has_tools=True,
        has_schema=True,
        system=True,
        last_turn="hello",
    )
    assert call.operation == "chat"


def test_long_prompts_keep_head_and_tail() -> None:
    text = "a" * 50_000 + "b" * 50_000
    query = parse(COMPLETIONS, {"prompt": text}).query
    assert len(query.text) == 2 * KEEP_BYTES
    assert (query.text[0], query.text[-1]) == ("a", "b")
    assert query.prompt_tokens == 25_000


def test_token_ids_are_counted_exactly() -> None:
    query = parse(COMPLETIONS, {"prompt": list(range(123))}).query
    assert (query.prompt_tokens, query.text) == (123, "")


def test_include_usage_is_remembered() -> None:
    body = {"stream": True, "stream_options": {"include_usage": True}}
    call = parse(CHAT, MINIMAL[CHAT] | body)
    assert (call.stream, call.include_usage) == (True, True)
