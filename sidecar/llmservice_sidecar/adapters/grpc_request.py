"""gRPC messages to OpenAI request bodies, so that both doors share one validation.

Nothing is checked here that the validation checks; only what has no OpenAI form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from llmservice_sidecar.core.errors import InvalidRequest
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

CHAT_PATH: Final = "/v1/chat/completions"
COMPLETIONS_PATH: Final = "/v1/completions"

_OPTIONAL_SAMPLING: Final = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "n",
)
_REPEATED_SAMPLING: Final = ("stop", "stop_token_ids")


def openai_request(request: pb.GenerateRequest, *, model: str) -> tuple[str, dict[str, object]]:
    """The OpenAI path and body that ask for the same; `model` is the service's own.

    Raises InvalidRequest when there is no prompt.
    """
    body: dict[str, object] = {
        "model": request.model or model,
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request.sampling),
    }
    if request.extra_args:
        body["vllm_xargs"] = _extra_args(request.extra_args)
    match request.WhichOneof("prompt"):
        case "text":
            return COMPLETIONS_PATH, body | {"prompt": request.text}
        case "token_ids":
            return COMPLETIONS_PATH, body | {"prompt": list(request.token_ids.ids)}
        case "chat":
            return CHAT_PATH, body | _chat(request.chat)
        case _:
            raise InvalidRequest(
                "a prompt is required: set one of text, token_ids and chat",
                param="prompt",
                code="missing_required_parameter",
            )


def _sampling(sampling: pb.SamplingParams) -> dict[str, object]:
    given: dict[str, object] = {
        name: getattr(sampling, name) for name in _OPTIONAL_SAMPLING if sampling.HasField(name)
    }
    for name in _REPEATED_SAMPLING:
        if values := list(getattr(sampling, name)):
            given[name] = values
    return given


def _chat(chat: pb.ChatPrompt) -> dict[str, object]:
    body: dict[str, object] = {"messages": [_message(m) for m in chat.messages]}
    if chat.tools:
        body["tools"] = _objects(chat.tools)
    if chat.HasField("template_args"):
        body["chat_template_kwargs"] = _object(chat.template_args)
    return body


def _message(message: pb.ChatMessage) -> dict[str, object]:
    plain: dict[str, object] = {"role": message.role, "content": message.content}
    if message.name:
        plain["name"] = message.name
    if message.tool_call_id:
        plain["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        plain["tool_calls"] = _objects(message.tool_calls)
    return plain


def _extra_args(given: Mapping[str, str]) -> dict[str, object]:
    return {key: _extra_value(text) for key, text in given.items()}


def _extra_value(text: str) -> object:
    """A JSON scalar or list as such, all else as text: `12` is a number, `abc` needs no quotes."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return text if value is None or isinstance(value, dict) else value


def _objects(structs: Iterable[Struct]) -> list[dict[str, object]]:
    return [_object(struct) for struct in structs]


def _object(struct: Struct) -> dict[str, object]:
    return {key: _whole(value) for key, value in MessageToDict(struct).items()}


def _whole(value: object) -> object:
    """A Struct has only doubles: `3.0` becomes `3`, as a JSON schema's bounds are meant."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in cast("dict[str, object]", value).items()}
    return value
