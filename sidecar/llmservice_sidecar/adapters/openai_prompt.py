"""What a predictor may see of a prompt: bounded text, sizes, turns. Also refuses foreign media."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from llmservice_sidecar.core.errors import InvalidRequest

KEEP_BYTES: Final = 16 * 1024  # of the head, and as many of the tail
_BYTES_PER_TOKEN: Final = 4
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text", "refusal", "summary_text"})
# Parts that carry media: where the bytes are a URL, only an inline one. The engine would fetch
# anything else from inside the cluster.
_MEDIA_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "image_url": ("image_url", "url"),
    "input_image": ("image_url",),
    "input_audio": (),
}
# What a turn holds beside its text: calls of tools, and in the responses API what came back.
_CALLS: Final = ("tool_calls", "function_call", "arguments", "output")
_INSTRUCTING: Final = ("system", "developer")  # roles; a tuple: a client may send anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt as a predictor may see it. `tokens` is exact for token ids, else an estimate.

    `other_tokens` are what the engine reads beside that: the rest of several prompts, of which
    the longest is in `tokens`, and calls of tools.
    `last_turn` is empty where it would be the whole text.
    """

    text: str
    tokens: int
    other_tokens: int = 0
    count: int = 1  # prompts in the request
    turns: int = 1
    system: bool = False  # instructions beside the turns
    last_turn: str = ""


def plain_prompt(prompt: object) -> Prompt:
    """The prompt of a completion: text, token ids, or a list of either."""
    if isinstance(prompt, str):
        return Prompt(text=bounded(prompt), tokens=_estimate(prompt))
    items = cast("list[Any]", prompt)
    if not items:
        raise InvalidRequest("'prompt' must not be empty", param="prompt")
    if isinstance(items[0], int):
        return Prompt(text="", tokens=len(items))
    if isinstance(items[0], str):
        texts = cast("list[str]", items)
        return _several(bounded("\n".join(texts)), [_estimate(text) for text in texts])
    return _several("", [len(ids) for ids in cast("list[list[int]]", items)])


def _several(text: str, sizes: list[int]) -> Prompt:
    longest = max(sizes)
    return Prompt(text=text, tokens=longest, other_tokens=sum(sizes) - longest, count=len(sizes))


def chat_prompt(messages: object, *, param: str, before: object = None) -> Prompt:
    """The prompt of a chat: its turns joined. `param` is the field's name, for errors."""
    instructions = [before] if isinstance(before, str) else []
    beside = 0
    if isinstance(messages, str):
        turns = [messages]
        system = bool(instructions)
    else:
        items = cast("list[Any]", messages)
        if not items:
            raise InvalidRequest(f"'{param}' must not be empty", param=param)
        turns = ["\n".join(_texts(item, f"{param}[{i}]")) for i, item in enumerate(items)]
        system = bool(instructions) or any(item.get("role") in _INSTRUCTING for item in items)
        beside = sum(tokens_beside(item, _CALLS) for item in items)
    joined = "\n".join(text for text in (*instructions, *turns) if text)
    return Prompt(
        text=bounded(joined),
        tokens=_estimate(joined),
        other_tokens=beside,
        turns=len(turns),
        system=system,
        last_turn=bounded(turns[-1]) if len(turns) > 1 else "",
    )


def tokens_beside(fields: Mapping[str, object], names: Iterable[str]) -> int:
    """About how many tokens the chat template makes of these fields, which are no text."""
    given = (fields.get(name) for name in names)
    # JSON or nearly so, of any value that can be; its exact form is the template's affair.
    return sum(len(repr(value)) // _BYTES_PER_TOKEN for value in given if value)


def bounded(text: str) -> str:
    """Head and tail of a text that is too long to look at."""
    if len(text) <= 2 * KEEP_BYTES:
        return text
    return text[:KEEP_BYTES] + text[-KEEP_BYTES:]


def _texts(message: object, path: str) -> Iterator[str]:
    if not isinstance(message, dict):
        raise InvalidRequest(f"'{path}' must be an object", param=path, code="invalid_type")
    content = cast("dict[str, Any]", message).get("content")
    if content is None:
        return
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        yield from _part_texts(cast("list[Any]", content), f"{path}.content")
    else:
        raise InvalidRequest(
            f"'{path}.content' must be a string or an array",
            param=f"{path}.content",
            code="invalid_type",
        )


def _part_texts(parts: Iterable[object], path: str) -> Iterator[str]:
    for i, part in enumerate(parts):
        where = f"{path}[{i}]"
        if isinstance(part, str):
            yield part
            continue
        if not isinstance(part, dict):
            raise InvalidRequest(f"'{where}' must be an object", param=where, code="invalid_type")
        fields = cast("dict[str, Any]", part)
        kind = fields.get("type", "text")
        if kind in _TEXT_PARTS:
            text = fields.get("text", fields.get("refusal", ""))
            if not isinstance(text, str):
                name = f"{where}.text"
                raise InvalidRequest(f"'{name}' must be a string", param=name, code="invalid_type")
            yield text
        elif kind in _MEDIA_PARTS:
            _check_inline(fields, _MEDIA_PARTS[kind], where)
        else:
            raise InvalidRequest(
                f"content of type {kind!r} is not supported",
                param=f"{where}.type",
                code="unsupported_parameter",
            )


def _check_inline(part: Mapping[str, Any], path: tuple[str, ...], where: str) -> None:
    value: Any = part
    for name in path:
        value = cast("Mapping[str, Any]", value).get(name) if isinstance(value, dict) else None
    if path and not (isinstance(value, str) and value.startswith("data:")):
        name = ".".join((where, *path))
        raise InvalidRequest(f"'{name}' must be a data: URL", param=name)


def _estimate(text: str) -> int:
    # UTF-8 length without making the bytes of a long prompt: most text is ASCII.
    size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    return max(1, size // _BYTES_PER_TOKEN)
