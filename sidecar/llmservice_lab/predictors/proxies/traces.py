"""Answers out of exported traces: OTLP JSON lines, where they carry prompts.

Spans carry prompt text only where content capture is on; without it nothing can be learned from
them, and the error says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from llmservice_lab.predictors.dataset import Sample

MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
MODELS: Final = ("gen_ai.response.model", "gen_ai.request.model")
FINISH: Final = "gen_ai.response.finish_reasons"
MAX_ANCESTORS: Final = 8
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}\Z")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Span:
    parent: str
    attributes: Mapping[str, Any]


def read_traces(lines: Iterable[Mapping[str, Any]], *, where: str) -> list[Sample]:
    """One sample per span that knows its output tokens and, itself or an ancestor, the prompt.

    Answers cut by their limit are left out, and those whose length is no number of tokens are
    counted in a warning. Raises ValueError when no span carries a prompt.
    """
    spans = dict(span for line in lines for span in _spans(line))
    parents = {span.parent for span in spans.values() if OUTPUT_TOKENS in span.attributes}
    counted = skipped = 0
    samples: list[Sample] = []
    for key, span in spans.items():
        # The same call may be counted by client, sidecar and engine: the innermost is enough.
        if OUTPUT_TOKENS not in span.attributes or key in parents:
            continue
        if not _is_length(span.attributes[OUTPUT_TOKENS]):
            skipped += 1
            continue
        counted += 1
        prompt = _prompt(key, spans)
        if prompt and "length" not in str(span.attributes.get(FINISH, "")):
            samples.append(_sample(prompt, span.attributes))
    if skipped:
        _log.warning(
            "%s: %d answers skipped: %s is no whole number from 1 up", where, skipped, OUTPUT_TOKENS
        )
    if not samples:
        raise ValueError(
            f"{where} has {counted} answers with a length, but none with its prompt in {MESSAGES}: "
            "spans carry prompts only where content capture is switched on"
        )
    return samples


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _sample(prompt: str, attributes: Mapping[str, Any]) -> Sample:
    model = next((str(attributes[name]) for name in MODELS if name in attributes), "")
    data = prompt.encode("utf-8", "replace")
    identity = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return Sample(
        source="traces",
        prompt_id=identity,
        group=identity,
        prompt=prompt,
        prompt_tokens=len(data) // 4,
        model=model,
        output_tokens=attributes[OUTPUT_TOKENS],
        split="test",
    )


def _prompt(key: str, spans: Mapping[str, _Span]) -> str:
    for _ in range(MAX_ANCESTORS):
        span = spans.get(key)
        if span is None:
            return ""
        if MESSAGES in span.attributes:
            return _text(span.attributes[MESSAGES])
        key = span.parent
    return ""


def _text(messages: Any) -> str:
    """Chat turns joined, from `[{role, parts: [{type, content}]}]` or `[{role, content}]`."""
    try:
        items: Any = json.loads(messages) if isinstance(messages, str) else messages
    except json.JSONDecodeError:
        return str(messages)  # plain text is a prompt, too
    if isinstance(items, str):
        return items
    turns: list[str] = []
    for item in _objects(items):
        turns += [str(part.get("content") or "") for part in _objects(item.get("parts", [item]))]
    return "\n".join(turn for turn in turns if turn)


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; nothing of anything else."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _spans(line: Mapping[str, Any]) -> Iterable[tuple[str, _Span]]:
    for resource in line.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                trace = span.get("traceId", "")
                attributes = {
                    attribute["key"]: _value(attribute.get("value") or {})
                    for attribute in span.get("attributes", [])
                }
                yield (
                    f"{trace}/{span.get('spanId', '')}",
                    _Span(f"{trace}/{span.get('parentSpanId', '')}", attributes),
                )


def _whole(value: Any) -> int | None:
    """A number as JSON has it or as text; None for anything else."""
    if isinstance(value, str) and _WHOLE.match(value):
        return int(value)
    return value if isinstance(value, int) else None


def _value(value: Mapping[str, Any]) -> Any:
    """A plain value of an OTLP AnyValue; numbers may come as text."""
    if "intValue" in value:
        return _whole(value["intValue"])
    if "arrayValue" in value:
        return [_value(each) for each in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        pairs = value["kvlistValue"].get("values", [])
        return {pair["key"]: _value(pair.get("value", {})) for pair in pairs}
    return next(iter(value.values()), None)
