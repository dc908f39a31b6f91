"""What a predictor learns of a request beside its text: turns, instructions, form, effort."""

from __future__ import annotations

from typing import Any

import pytest
from llmservice_api.sidecar_config import ModelConfig
from llmservice_sidecar.adapters.openai_prompt import KEEP_BYTES
from llmservice_sidecar.adapters.openai_request import CallContext, OpenAIRequests
from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime.ports import PredictionQuery

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
REQUESTS = OpenAIRequests(model=ModelConfig(name="m", adapters=("m-lora",)), allowed_extra_args=())
MINIMAL: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    RESPONSES: {"input": "hello"},
}


def query(path: str = CHAT, **fields: Any) -> PredictionQuery:
    context = CallContext(request_id=RequestId("r"))
    return REQUESTS.parse(path, MINIMAL[path] | fields, context).query


def turns(*said: tuple[str, object]) -> list[dict[str, object]]:
    return [{"role": role, "content": content} for role, content in said]


def test_the_last_turn_of_a_conversation_stands_alone() -> None:
    messages = turns(("user", "hi"), ("assistant", "hello"), ("user", "and now?"))
    found = query(messages=messages)
    assert (found.last_turn, found.turns, found.system) == ("and now?", 3, False)


def test_a_single_turn_has_no_last_turn_beside_its_text() -> None:
    assert (query().last_turn, query(RESPONSES).last_turn) == ("", "")


def test_parts_of_one_turn_belong_together() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    found = query(messages=turns(("user", "zero"), ("user", parts)))
    assert (found.last_turn, found.text, found.turns) == ("one\ntwo", "zero\none\ntwo", 2)


def test_a_turn_without_text_leaves_no_trace_in_it() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]}
    found = query(messages=[*turns(("user", "hi")), call, *turns(("tool", "42"))])
    assert (found.text, found.turns) == ("hi\n42", 3)


def test_a_long_last_turn_keeps_head_and_tail() -> None:
    found = query(messages=turns(("user", "hi"), ("user", "a" * 90_000 + "b" * 90_000)))
    assert len(found.last_turn) == 2 * KEEP_BYTES
    assert (found.last_turn[0], found.last_turn[-1]) == ("a", "b")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"messages": turns(("system", "be brief"), ("user", "hi"))}),
        (CHAT, {"messages": turns(("developer", "be brief"), ("user", "hi"))}),
        (RESPONSES, {"instructions": "be brief"}),
        (RESPONSES, {"input": turns(("user", "hi")), "instructions": "be brief"}),
    ],
    ids=["system role", "developer role", "instructions", "instructions beside turns"],
)
def test_instructions_are_noticed(path: str, fields: dict[str, Any]) -> None:
    assert query(path, **fields).system


@pytest.mark.parametrize("role", [None, 5, ["system"], {"a": 1}])
def test_an_odd_role_is_no_instruction_and_no_error(role: object) -> None:
    assert not query(messages=[{"role": role, "content": "hi"}]).system


@pytest.mark.parametrize(
    ("path", "fields", "effort"),
    [
        (CHAT, {"reasoning_effort": "high"}, "high"),
        (RESPONSES, {"reasoning": {"effort": "low", "summary": "auto"}}, "low"),
        (RESPONSES, {"reasoning": {"effort": 5}}, None),
        (CHAT, {"chat_template_kwargs": {"enable_thinking": False}}, "none"),
        (CHAT, {"chat_template_kwargs": {"thinking": False}}, "none"),
        (CHAT, {"chat_template_kwargs": {"enable_thinking": True}}, "on"),
        (CHAT, {"chat_template_kwargs": {"other": False}}, None),
        (CHAT, {"reasoning_effort": "x" * 5000}, "x" * 16),
        (CHAT, {}, None),
    ],
)
def test_the_reasoning_effort_is_the_clients_word(
    path: str, fields: dict[str, Any], effort: str | None
) -> None:
    assert query(path, **fields).reasoning_effort == effort


@pytest.mark.parametrize(
    ("path", "fields", "has_schema"),
    [
        (CHAT, {"response_format": {"type": "json_object"}}, True),
        (CHAT, {"response_format": {"type": "text"}}, False),
        (CHAT, {"structured_outputs": {"regex": "a+"}}, True),
        (RESPONSES, {"text": {"format": {"type": "json_schema"}}}, True),
        (RESPONSES, {"text": {"verbosity": "low"}}, False),
        (RESPONSES, {"text": {"format": "odd"}}, False),
    ],
)
def test_only_a_constrained_form_is_a_schema(
    path: str, fields: dict[str, Any], has_schema: bool
) -> None:
    assert query(path, **fields).has_schema is has_schema


def test_an_adapter_is_asked_for_under_its_own_name() -> None:
    assert query(model="m-lora").model == "m-lora"


def test_several_answers_and_prompts_are_predicted_one_by_one() -> None:
    # Each answer has its own length; the gate multiplies by the slots.
    assert query(n=4, max_tokens=50).max_tokens == 50
