"""Every kind of request through both doors: what the predictor is told, what the gate is charged.

The table in docs/limits.md says the same for people; a test keeps them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.json_format import ParseDict
from llmservice_api.sidecar_config import ModelConfig
from llmservice_sidecar.adapters.grpc_request import openai_request
from llmservice_sidecar.adapters.openai_request import CallContext, OpenAIRequests
from llmservice_sidecar.core.errors import InvalidRequest
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.runtime.call import InferenceCall
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

ROOT: Final = Path(__file__).parents[3]
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
REQUESTS: Final = OpenAIRequests(
    model=ModelConfig(name="m", adapters=("m-lora",)), allowed_extra_args=()
)
HELLO: Final = [{"role": "user", "content": "hello"}]
TALK: Final = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "and now?"},
]
TOOLS: Final = [
    {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
]
CALL: Final = {
    "role": "assistant", "content": "",
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind in the table of docs/limits.md, asked for at both doors (None: not possible there).

    `query` are fields of the prediction's query, `slots` what is held, `tokens` the prompt's.
    """

    path: str
    http: Mapping[str, Any]
    grpc: Mapping[str, Any] | None
    query: Mapping[str, Any] = field(default_factory=dict[str, Any])
    slots: int = 1
    prompt_tokens: int | None = None


def chat(**more: Any) -> dict[str, Any]:
    return {"chat": {"messages": HELLO, **more}}


KINDS: Final[Mapping[str, Sequence[Kind]]] = {
    "reasoning": [
        Kind(CHAT, {"messages": HELLO, "reasoning_effort": "high"},
             chat(template_args={"reasoning_effort": "high"}), {"reasoning_effort": "high"}),
        Kind(CHAT, {"messages": HELLO, "chat_template_kwargs": {"enable_thinking": False}},
             chat(template_args={"enable_thinking": False}), {"reasoning_effort": "none"}),
        Kind(RESPONSES, {"input": "hello", "reasoning": {"effort": "low"}}, None,
             {"reasoning_effort": "low"}),
    ],
    "several turns": [
        Kind(CHAT, {"messages": TALK}, {"chat": {"messages": TALK}},
             {"turns": 4, "system": True, "last_turn": "and now?",
              "text": "be brief\nhi\nhello\nand now?"}),
    ],
    "tools": [
        Kind(CHAT, {"messages": HELLO, "tools": TOOLS}, chat(tools=TOOLS),
             {"has_tools": True, "has_schema": False}),
        Kind(CHAT, {"messages": HELLO, "tools": TOOLS, "tool_choice": "auto"}, None,
             {"has_tools": True, "has_schema": False}),
        Kind(CHAT, {"messages": HELLO, "tools": TOOLS, "tool_choice": "none"}, None,
             {"has_tools": False, "has_schema": False}, prompt_tokens=1),
        Kind(CHAT, {"messages": HELLO, "tools": TOOLS, "tool_choice": "required"}, None,
             {"has_tools": True, "has_schema": True}),
        Kind(CHAT, {"messages": HELLO, "tools": TOOLS, "tool_choice": TOOLS[0]}, None,
             {"has_tools": True, "has_schema": True}),
        Kind(CHAT, {"messages": [*HELLO, CALL, {"role": "tool", "content": "42"}]},
             {"chat": {"messages": [*HELLO, CALL, {"role": "tool", "content": "42"}]}},
             {"turns": 3, "text": "hello\n42", "last_turn": "42"}),
    ],
    "`n`, `best_of`": [
        Kind(CHAT, {"messages": HELLO, "n": 3, "max_tokens": 50},
             chat() | {"sampling": {"n": 3, "max_tokens": 50}}, {"max_tokens": 50}, slots=3),
        Kind(COMPLETIONS, {"prompt": "hello", "n": 1, "best_of": 4}, None, slots=4),
    ],
    "JSON schema, structured outputs": [
        Kind(CHAT, {"messages": HELLO, "response_format": {"type": "json_schema"}}, None,
             {"has_schema": True}),
        Kind(CHAT, {"messages": HELLO, "structured_outputs": {"choice": ["a", "b"]}}, None,
             {"has_schema": True}),
    ],
    "`stop`, `stop_token_ids`": [
        Kind(CHAT, {"messages": HELLO, "stop": ["\n"], "stop_token_ids": [7]},
             chat() | {"sampling": {"stop": ["\n"], "stop_token_ids": [7]}},
             {"text": "hello", "max_tokens": None}),
    ],
    "adapters": [
        Kind(CHAT, {"messages": HELLO, "model": "m-lora"}, chat() | {"model": "m-lora"},
             {"model": "m-lora"}),
    ],
    "token ids": [
        Kind(COMPLETIONS, {"prompt": [1, 2, 3]}, {"token_ids": {"ids": [1, 2, 3]}}, {"text": ""},
             prompt_tokens=3),
    ],
    "several prompts": [
        Kind(COMPLETIONS, {"prompt": ["a" * 40, "b" * 80], "n": 2}, None,
             {"prompt_tokens": 20}, slots=4, prompt_tokens=30),
        Kind(COMPLETIONS, {"prompt": [[1, 2], [3, 4, 5]]}, None,
             {"prompt_tokens": 3, "text": ""}, slots=2, prompt_tokens=5),
    ],
    "images, audio": [
        Kind(CHAT, {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]}, None,
             {"text": "what is it?"}, prompt_tokens=2),
    ],
}  # fmt: skip
CASES: Final = [
    pytest.param(kind, id=f"{name} {at}")
    for name, kinds in KINDS.items()
    for at, kind in enumerate(kinds)
]
REFUSED: Final = ("use_beam_search", "min_tokens", "ignore_eos", "guided_json", "thinking")


def parsed(path: str, body: Mapping[str, Any]) -> InferenceCall:
    return REQUESTS.parse(path, dict(body), CallContext(request_id=RequestId("r")))


def through_grpc(fields: Mapping[str, Any]) -> InferenceCall:
    message = ParseDict(dict(fields), pb.GenerateRequest())
    return parsed(*openai_request(message, model="m"))


def check(call: InferenceCall, kind: Kind) -> None:
    assert {name: getattr(call.query, name) for name in kind.query} == kind.query
    assert call.slots == kind.slots
    if kind.prompt_tokens is not None:
        assert call.query.prompt_tokens + call.other_prompt_tokens == kind.prompt_tokens


@pytest.mark.parametrize("kind", CASES)
def test_the_http_door_tells_the_predictor(kind: Kind) -> None:
    check(parsed(kind.path, kind.http), kind)


@pytest.mark.parametrize("kind", CASES)
def test_the_grpc_door_tells_it_the_same(kind: Kind) -> None:
    if kind.grpc is None:
        assert kind.path == RESPONSES or not grpc_can_say(kind.http)
        return
    check(through_grpc(kind.grpc), kind)


def grpc_can_say(body: Mapping[str, Any]) -> bool:
    """Whether all fields of a body have a place in the proto, beside several prompts and parts."""
    said = {"messages", "prompt", "tools", "model", *pb.SamplingParams.DESCRIPTOR.fields_by_name}
    several = isinstance(body.get("prompt"), list) and not isinstance(body["prompt"][0], int)
    parts = any(isinstance(turn["content"], list) for turn in body.get("messages", ()))
    return body.keys() <= said and not several and not parts


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_could_foresee_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        parsed(CHAT, {"messages": HELLO, name: True})


def read_by_the_engine(path: str, **body: Any) -> int:
    call = parsed(path, body)
    return call.query.prompt_tokens + call.other_prompt_tokens


def test_tools_and_calls_are_charged_for() -> None:
    plain = read_by_the_engine(CHAT, messages=HELLO)
    assert read_by_the_engine(CHAT, messages=HELLO, tools=TOOLS) >= plain + 15
    assert read_by_the_engine(CHAT, messages=[*HELLO, CALL]) >= plain + 15
    output = [{"type": "function_call_output", "call_id": "1", "output": "x" * 400}]
    assert read_by_the_engine(RESPONSES, input=output) >= 100


def test_the_predictor_is_told_the_size_of_what_it_reads() -> None:
    # It learned what so many tokens of a text mean; those of tools would look like a longer text.
    plain = parsed(CHAT, {"messages": HELLO}).query
    tools = parsed(CHAT, {"messages": [*HELLO, CALL, *HELLO], "tools": TOOLS}).query
    assert tools.prompt_tokens <= plain.prompt_tokens + 2


def test_all_answers_are_charged_for() -> None:
    call = parsed(CHAT, {"messages": HELLO, "n": 4, "max_tokens": 50})
    request = Request(
        id=call.request_id, arrived_at=0.0, prompt_tokens=call.query.prompt_tokens,
        prediction=Prediction(30.0, 80.0, "model"), max_tokens=call.query.max_tokens,
        slots=call.slots,
    )  # fmt: skip
    assert request.predicted_tokens == 4 * 30.0


def test_the_limits_page_has_a_line_for_every_kind() -> None:
    page = (ROOT / "docs" / "limits.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| ")]
    for kind in KINDS:
        assert any(line.startswith(f"| {kind} |") for line in table), kind
    refused = " ".join(line for line in table if line.endswith("| refused with 400 |"))
    for name in ("use_beam_search", "min_tokens", "ignore_eos"):
        assert f"`{name}`" in refused
