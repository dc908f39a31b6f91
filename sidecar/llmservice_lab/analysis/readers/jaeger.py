"""Jaeger's query API (`/api/traces`, of all versions) to spans. Knows no meaning of a span."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

import msgspec
from llmservice_sidecar.runtime import telemetry_names as names

from llmservice_lab.analysis.readers.http import Store, StoreError
from llmservice_lab.analysis.readers.slices import Paging, Window, in_slices
from llmservice_lab.analysis.readers.span import (
    AttributeValue,
    RawSpan,
    Scalar,
    span_id_of,
    trace_id_of,
)
from llmservice_lab.analysis.record import Told

_PAGE: Final = 1000  # traces; stores behind Jaeger refuse much more
_LEAST_S: Final = 0.001
_T = TypeVar("_T")
_SPANS_SERVICE_SUFFIX: Final = "-engine"  # vLLM's own spans: part of the same traces


def _camel(name: str) -> str:
    """As Jaeger writes it: traceID, startTime."""
    first, *rest = name.split("_")
    return first + "".join("ID" if word == "id" else word.capitalize() for word in rest)


class _Tag(msgspec.Struct, gc=False, rename=_camel):
    key: str
    value: str | int | float | bool | None = None
    type: str = ""


class _Reference(msgspec.Struct, gc=False, rename=_camel):
    span_id: str
    ref_type: str = "CHILD_OF"


class _Log(msgspec.Struct, gc=False, rename=_camel):
    timestamp: int
    fields: list[_Tag] = []


class _Span(msgspec.Struct, gc=False, rename=_camel):
    trace_id: str
    span_id: str
    start_time: int  # microseconds
    duration: int
    operation_name: str = ""
    process_id: str = ""
    references: list[_Reference] = []
    tags: list[_Tag] = []
    logs: list[_Log] = []


class _Process(msgspec.Struct, rename=_camel):
    service_name: str = ""
    tags: list[_Tag] = []


class _Trace(msgspec.Struct, rename=_camel):
    trace_id: str = ""
    spans: list[msgspec.Raw] = []
    processes: dict[str, _Process] = {}


class _Answer(msgspec.Struct, rename=_camel):
    data: list[_Trace] | None = None


class _Services(msgspec.Struct, rename=_camel):
    data: list[str] | None = None


def services(store: Store) -> list[str]:
    """The services whose traces may be asked for. Raises StoreError."""
    found = _decoded(store.get("/api/services"), _Services, store).data or []
    return sorted(name for name in found if not name.endswith(_SPANS_SERVICE_SUFFIX))


def read(store: Store, service: str, window: Window, told: Told) -> Iterator[RawSpan]:
    """The spans of a service's traces, latest first, a slice at a time. Raises StoreError."""

    def ask(since_s: float, until_s: float) -> list[tuple[str, _Trace]]:
        query = {
            "service": service,
            "start": math.floor(since_s * 1e6),
            "end": math.ceil(until_s * 1e6),
            "limit": _PAGE,
        }
        body = store.get("/api/traces", **query)
        return [(one.trace_id, one) for one in _decoded(body, _Answer, store).data or []]

    paging = Paging(page=_PAGE, least_s=_LEAST_S)
    for traces in in_slices(window, ask, paging=paging, told=told):
        for _, trace in traces:
            yield from _spans(trace, told)


def _decoded(body: bytes, kind: type[_T], store: Store) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{store.base} does not answer as Jaeger's query API: {error}") from error


def _spans(trace: _Trace, told: Told) -> Iterator[RawSpan]:
    processes = {
        key: (process.service_name, _attributes(process.tags))
        for key, process in trace.processes.items()
    }
    for raw in trace.spans:
        told.spans += 1
        try:
            span = msgspec.json.decode(raw, type=_Span)
            service, resource = processes.get(span.process_id, ("", {}))
            yield _span(span, service, resource)
        except (msgspec.DecodeError, ValueError) as error:
            told.broken(f"a span of trace {trace.trace_id}: {error}")


def _span(span: _Span, service: str, resource: Mapping[str, AttributeValue]) -> RawSpan:
    events: dict[str, float] = {}
    queued: dict[str, AttributeValue] = {}
    for log in span.logs:
        fields = _attributes(log.fields)
        name = str(fields.pop("event", ""))
        events.setdefault(name, log.timestamp / 1e6)
        if name == names.EVENT_OFFER:
            queued = fields
    parents = [one.span_id for one in span.references if one.ref_type == "CHILD_OF"]
    return RawSpan(
        trace_id=trace_id_of(span.trace_id),
        span_id=span_id_of(span.span_id),
        parent_id=span_id_of(parents[0]) if parents else "",
        name=span.operation_name,
        service=service,
        pod=str(
            resource.get(names.RESOURCE_POD) or resource.get(names.RESOURCE_SERVICE_INSTANCE, "")
        ),
        start_s=span.start_time / 1e6,
        end_s=(span.start_time + span.duration) / 1e6,
        attributes=_attributes(span.tags),
        events=events,
        queued=queued,
    )


def _attributes(tags: list[_Tag]) -> dict[str, AttributeValue]:
    return {tag.key: _plain(tag.value) for tag in tags if tag.value is not None}


def _plain(value: Scalar) -> AttributeValue:
    """Jaeger writes a list as the JSON text of it."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            items = json.loads(value)
        except ValueError:
            return value
        return tuple(items)
    return value
