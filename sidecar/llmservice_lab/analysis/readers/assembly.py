"""Spans to requests: each span is folded into its request at once and forgotten.

A request is one span of a door with its children. Children may come before it, from other files or
batches, so what is kept is keyed by the door's span; what is kept is bounded by the selection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmservice_sidecar.runtime import telemetry_names as names

from llmservice_lab.analysis.readers.span import AttributeValue, RawSpan
from llmservice_lab.analysis.record import Reading, Told, TracedRequest

DEFAULT_LIMIT: Final = 200_000
_PER_REQUEST: Final = 2  # drafts kept for each wanted request: children come before their door
_PARTS_PER_REQUEST: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which requests are wanted: those that arrived from `since_s` until before `until_s`."""

    since_s: float = -math.inf  # Unix seconds
    until_s: float = math.inf
    service: str | None = None
    limit: int = DEFAULT_LIMIT  # the latest so many


Fields = dict[str, Any]  # of a TracedRequest; checked by its own types once, at the end

_DOOR: Final = {
    "request_id": (names.ATTR_REQUEST_ID, str),
    "door": (names.ATTR_DOOR, str),
    "outcome": (names.ATTR_OUTCOME, str),
    "reason": (names.ATTR_REASON, str),
    "tenant": (names.ATTR_TENANT, str),
    "priority": (names.ATTR_PRIORITY, int),
    "policy": (names.ATTR_POLICY, str),
    "order": (names.ATTR_ORDER, str),
    "tail_weight": (names.ATTR_TAIL_WEIGHT, float),
    "slots": (names.ATTR_SLOTS, int),
    "prompt_tokens": (names.ATTR_PROMPT_TOKENS, int),
    "timeout_s": (names.ATTR_TIMEOUT_S, float),
    "sampled_by": (names.ATTR_SAMPLED_BY, str),
    "predicted_tokens": (names.ATTR_PREDICTED, float),
    "predicted_p50": (names.ATTR_PREDICTED_P50, float),
    "predicted_p90": (names.ATTR_PREDICTED_P90, float),
    "prediction_source": (names.ATTR_PREDICTION_SOURCE, str),
    "actual_tokens": (names.ATTR_ACTUAL, int),
}
_QUEUE: Final = {
    "queue_wait_s": (names.ATTR_QUEUE_WAIT_S, float),
    "expected_wait_s": (names.ATTR_PREDICTED_WAIT_S, float),
    "key": (names.ATTR_KEY, float),
    "gamma_per_s": (names.ATTR_GAMMA, float),
    "limit_slots": (names.ATTR_LIMIT_SLOTS, int),
    "overtook": (names.ATTR_OVERTOOK, int),
    "overtaken_by": (names.ATTR_OVERTAKEN_BY, int),
}
_QUEUED: Final = {
    "position": (names.ATTR_QUEUE_POSITION, int),
    "depth": (names.ATTR_QUEUE_DEPTH, int),
}
_CLIENT: Final = {
    "model": (names.ATTR_GEN_AI_MODEL, str),
    "max_tokens": (names.ATTR_GEN_AI_MAX_TOKENS, int),
    "stream": (names.ATTR_GEN_AI_STREAM, bool),
    "prompt_tokens": (names.ATTR_GEN_AI_INPUT_TOKENS, int),
    "output_tokens": (names.ATTR_GEN_AI_OUTPUT_TOKENS, int),
    "longest_gap_s": (names.ATTR_LONGEST_GAP_S, float),
    "client_stall_s": (names.ATTR_CLIENT_STALL_S, float),
}
_Table = Mapping[str, tuple[str, type[str] | type[int] | type[float] | type[bool]]]


class Assembly:
    """Takes spans in any order; `reading` gives the requests they make."""

    def __init__(self, selection: Selection, told: Told) -> None:
        self._selection = selection
        self._told = told
        self._doors: dict[tuple[str, str], Fields] = {}  # by trace and the door's span
        self._parts: dict[tuple[str, str], Fields] = {}  # of its children, known so far
        self._engines: dict[tuple[str, str], float] = {}  # by trace and the CLIENT span

    def add_all(self, spans: Iterable[RawSpan]) -> None:
        """Fold in spans."""
        for span in spans:
            self.add(span)

    def add(self, span: RawSpan) -> None:
        """Fold in one span; one that cannot be understood is counted and told."""
        try:
            self._add(span)
        except (TypeError, ValueError) as error:
            self._told.broken(f"span {span.name!r} of trace {span.trace_id}: {error}")

    def _add(self, span: RawSpan) -> None:
        attributes = span.attributes
        if names.ATTR_DOOR in attributes:
            self._add_door(span)
        elif names.ATTR_ENGINE_QUEUE_S in attributes:
            key = (span.trace_id, span.parent_id)
            self._engines[key] = float(_number(attributes[names.ATTR_ENGINE_QUEUE_S]))
        elif span.name in (names.SPAN_PREDICT, names.SPAN_QUEUE) or (
            attributes.get(names.ATTR_GEN_AI_PROVIDER) == names.PROVIDER
            and names.ATTR_GEN_AI_OPERATION in attributes
            and names.ATTR_GEN_AI_CHOICES in attributes
        ):
            self._add_part(span)
        else:
            self._told.foreign_spans += 1

    def _add_door(self, span: RawSpan) -> None:
        chosen = self._selection
        outside = not chosen.since_s <= span.start_s < chosen.until_s
        if outside or chosen.service not in (None, span.service):
            self._told.left_out += 1
            self._parts.pop((span.trace_id, span.span_id), None)
            return
        fields = _taken(_DOOR, span.attributes)
        missing = [name for name in ("request_id", "outcome", "reason") if name not in fields]
        if missing:
            raise ValueError(f"the door's span lacks {', '.join(missing)}")
        self._doors[span.trace_id, span.span_id] = {
            "trace_id": span.trace_id,
            "service": span.service,
            "pod": span.pod,
            "arrived_s": span.start_s,
            "ended_s": span.end_s,
            **fields,
        }
        self._bound()

    def _add_part(self, span: RawSpan) -> None:
        key = (span.trace_id, span.parent_id)
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = {}
            self._bound_parts()
        if span.name == names.SPAN_PREDICT:
            part["predict_s"] = span.end_s - span.start_s
        elif span.name == names.SPAN_QUEUE:
            part |= _taken(_QUEUE, span.attributes) | _taken(_QUEUED, span.queued)
            part["queued_s"], part["left_queue_s"] = span.start_s, span.end_s
            if ids := span.attributes.get(names.ATTR_OVERTAKEN_BY_IDS):
                part["overtaken_by_ids"] = _texts(ids)
        else:
            part |= _taken(_CLIENT, span.attributes)
            part["called_s"], part["engine_ended_s"] = span.start_s, span.end_s
            part["client_span"] = span.span_id
            first = span.events.get(names.EVENT_FIRST_TOKEN)
            if first is not None:
                part["first_token_s"] = first

    def _bound_parts(self) -> None:
        """Forget the children that have waited longest for a door which does not come."""
        most = _PARTS_PER_REQUEST * self._selection.limit
        if len(self._parts) > most:
            waiting = [key for key in self._parts if key not in self._doors]
            for key in waiting[: most // 2]:
                del self._parts[key]
                self._told.incomplete += 1

    def _bound(self) -> None:
        """Forget the earliest requests beyond the limit, now and then."""
        limit = self._selection.limit
        if len(self._doors) < _PER_REQUEST * limit:
            return
        latest = sorted(self._doors, key=lambda key: self._doors[key]["arrived_s"])
        for key in latest[:-limit]:
            del self._doors[key]
            self._parts.pop(key, None)
            self._told.left_out += 1

    def reading(self, source: str) -> Reading:
        """What has been read, in order of arrival."""
        requests: list[TracedRequest] = []
        while self._doors:
            key, fields = self._doors.popitem()
            part = self._parts.pop(key, {})
            client = part.pop("client_span", "")
            fields |= part
            engine_queue_s = self._engines.pop((key[0], client), None)
            requests.append(TracedRequest(**fields, engine_queue_s=engine_queue_s))
        requests.sort(key=lambda one: (one.arrived_s, one.request_id))
        beyond = len(requests) - self._selection.limit
        if beyond > 0:
            del requests[:beyond]
            self._told.left_out += beyond
        self._told.incomplete += len(self._parts)
        return Reading(source=source, requests=requests, told=self._told)


def _taken(table: _Table, attributes: Mapping[str, AttributeValue]) -> Fields:
    fields: Fields = {}
    for name, (attribute, kind) in table.items():
        value = attributes.get(attribute)
        if value is None:
            continue
        if kind is str:
            fields[name] = str(value)
        elif kind is bool:
            fields[name] = value is True
        else:
            fields[name] = kind(_number(value))
    return fields


def _number(value: AttributeValue) -> float | int:
    if isinstance(value, tuple):
        raise TypeError(f"{value!r} is not a number")
    number = float(value) if isinstance(value, str) else value
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def _texts(value: AttributeValue) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)
