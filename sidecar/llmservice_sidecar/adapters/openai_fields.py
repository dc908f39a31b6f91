"""The fields that OpenAI requests may carry, and what each must look like. Tables, no flow.

What is not in these tables never reaches the engine. Ranges that do no harm are the engine's to
judge: its own error tells more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value must be: `name` as a sentence reads it, `accepts` decides."""

    name: str
    accepts: Callable[[object], bool]


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list_of(accepts: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(accepts, cast("list[Any]", value)))


def _text(value: object) -> bool:
    return isinstance(value, str)


def _object(value: object) -> bool:
    return isinstance(value, dict)


TEXT: Final = Kind("a string", _text)
FLAG: Final = Kind("a boolean", lambda value: isinstance(value, bool))
INTEGER: Final = Kind("an integer", _integer)
COUNT: Final = Kind("an integer of 1 or more", lambda v: _integer(v) and cast("int", v) >= 1)
NUMBER: Final = Kind("a number", _number)
OBJECT: Final = Kind("an object", _object)
OBJECTS: Final = Kind("an array of objects", _list_of(_object))
TEXTS: Final = Kind("an array of strings", _list_of(_text))
INTEGERS: Final = Kind("an array of integers", _list_of(_integer))
STOP: Final = Kind("a string or an array of strings", lambda v: _text(v) or _list_of(_text)(v))
CHOICE: Final = Kind("a string or an object", lambda v: _text(v) or _object(v))
LOGPROBS: Final = Kind("an integer", _integer)
INPUT: Final = Kind("a string or an array", lambda v: isinstance(v, str | list))
PROMPT: Final = Kind(
    "a string, an array of strings, an array of tokens, or an array of token arrays",
    lambda v: (
        _text(v) or _list_of(_text)(v) or _list_of(_integer)(v) or _list_of(_list_of(_integer))(v)
    ),
)

_COMMON: Final[Mapping[str, Kind]] = {
    "model": TEXT,
    "stream": FLAG,
    "stream_options": OBJECT,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "user": TEXT,
    # vLLM's own, as documented
    "top_k": INTEGER,
    "min_p": NUMBER,
    "repetition_penalty": NUMBER,
    "stop_token_ids": INTEGERS,
    "structured_outputs": OBJECT,
    "chat_template_kwargs": OBJECT,
    "reasoning_effort": TEXT,
    "vllm_xargs": OBJECT,
}
_SAMPLING: Final[Mapping[str, Kind]] = {
    "frequency_penalty": NUMBER,
    "presence_penalty": NUMBER,
    "logit_bias": OBJECT,
    "max_tokens": COUNT,
    "n": COUNT,
    "return_token_ids": FLAG,  # vLLM's own; only adds to the answer what it consists of
    "seed": INTEGER,
    "stop": STOP,
}
_ACCOUNT: Final[Mapping[str, Kind]] = {
    "metadata": OBJECT,
    "parallel_tool_calls": FLAG,
    "prompt_cache_key": TEXT,
    "prompt_cache_retention": TEXT,
    "safety_identifier": TEXT,
    "service_tier": TEXT,
    "store": FLAG,
    "tool_choice": CHOICE,
    "tools": OBJECTS,
    "top_logprobs": INTEGER,
}

CHAT_FIELDS: Final[Mapping[str, Kind]] = {
    **_COMMON,
    **_SAMPLING,
    **_ACCOUNT,
    "messages": OBJECTS,
    "audio": OBJECT,
    "function_call": CHOICE,
    "functions": OBJECTS,
    "logprobs": FLAG,
    "max_completion_tokens": COUNT,
    "modalities": TEXTS,
    "prediction": OBJECT,
    "response_format": OBJECT,
    "verbosity": TEXT,
    "web_search_options": OBJECT,
}
COMPLETION_FIELDS: Final[Mapping[str, Kind]] = {
    **_COMMON,
    **_SAMPLING,
    # max_tokens 0 with echo scores a prompt
    "max_tokens": Kind("an integer of 0 or more", lambda v: _integer(v) and cast("int", v) >= 0),
    "prompt": PROMPT,
    "best_of": COUNT,
    "echo": FLAG,
    "logprobs": LOGPROBS,
    "suffix": TEXT,
}
RESPONSE_FIELDS: Final[Mapping[str, Kind]] = {
    **_COMMON,
    **_ACCOUNT,
    "input": INPUT,
    "background": FLAG,
    "conversation": CHOICE,
    "include": TEXTS,
    "instructions": TEXT,
    "max_output_tokens": COUNT,
    "max_tool_calls": INTEGER,
    "previous_response_id": TEXT,
    "prompt": OBJECT,
    "reasoning": OBJECT,
    "text": OBJECT,
    "truncation": TEXT,
}
STREAM_OPTIONS: Final[Mapping[str, Kind]] = {"include_usage": FLAG, "include_obfuscation": FLAG}

# They would choose the template or turn its output into something else than a prompt.
REFUSED_TEMPLATE_ARGS: Final[Sequence[str]] = ("chat_template", "tokenize")
