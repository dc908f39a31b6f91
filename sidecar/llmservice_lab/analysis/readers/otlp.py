"""OTLP/JSON to spans: a whole document, or one export request a line. Knows no meaning of a span.

Spans are decoded one by one out of the bytes, so that a broken one costs only itself, and a
document of any size is never there as objects.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from llmservice_sidecar.runtime import telemetry_names as names

from llmservice_lab.analysis.readers.span import (
    AttributeValue,
    RawSpan,
    Scalar,
    span_id_of,
    trace_id_of,
)
from llmservice_lab.analysis.record import Told

Buffer = bytes | mmap.mmap


class _Array(msgspec.Struct, gc=False, rename="camel"):
    values: list[_Value] = msgspec.field(default_factory=list["_Value"])


class _Value(msgspec.Struct, gc=False, rename="camel"):
    string_value: str | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    bool_value: bool | None = None
    array_value: _Array | None = None


class _Pair(msgspec.Struct, gc=False, rename="camel"):
    key: str
    value: _Value = msgspec.field(default_factory=_Value)


class _Event(msgspec.Struct, gc=False, rename="camel"):
    name: str = ""
    time_unix_nano: int | str = 0
    attributes: list[_Pair] = []


class _Span(msgspec.Struct, gc=False, rename="camel"):
    trace_id: str
    span_id: str
    start_time_unix_nano: int | str
    end_time_unix_nano: int | str
    name: str = ""
    parent_span_id: str = ""
    attributes: list[_Pair] = []
    events: list[_Event] = []


class _Resource(msgspec.Struct, rename="camel"):
    attributes: list[_Pair] = []


class _Scope(msgspec.Struct, rename="camel"):
    spans: list[msgspec.Raw] = []


class _Batch(msgspec.Struct, rename="camel"):
    resource: _Resource = msgspec.field(default_factory=_Resource)
    scope_spans: list[_Scope] = []


class _Document(msgspec.Struct, rename="camel"):
    """`batches` is what Tempo calls `resourceSpans`."""

    resource_spans: list[msgspec.Raw] | None = None
    batches: list[msgspec.Raw] | None = None


_LOOKED_AT: Final = 5  # first lines: one of them may be broken
_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_BATCH: Final = msgspec.json.Decoder(_Batch)
_SPAN: Final = msgspec.json.Decoder(_Span)


class NoSpansHere(ValueError):
    """The input is not OTLP/JSON at all; the message says what it is instead."""


def read_files(paths: Iterable[Path], told: Told) -> Iterator[RawSpan]:
    """The spans of some files. Raises OSError, and NoSpansHere naming the file."""
    for path in paths:
        if path.stat().st_size == 0:
            raise NoSpansHere(f"{path} is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            try:
                yield from _spans_in(view, told)
            except NoSpansHere as error:
                raise NoSpansHere(f"{path} {error}") from error


def spans_of(document: bytes, told: Told) -> Iterator[RawSpan]:
    """The spans of one document. Raises NoSpansHere."""
    try:
        decoded = _DOCUMENT.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NoSpansHere(f"is no OTLP/JSON: {error}") from error
    batches = decoded.resource_spans if decoded.batches is None else decoded.batches
    if batches is None:
        raise NoSpansHere("is JSON, but has no resourceSpans: it is no OTLP/JSON")
    for batch in batches:
        yield from _of_batch(batch, told)


def _spans_in(view: mmap.mmap, told: Told) -> Iterator[RawSpan]:
    """Lines if one of the first is a document by itself, else one document."""
    first_lines = list(itertools.islice(iter(view.readline, b""), _LOOKED_AT))
    view.seek(0)
    if len(first_lines) == 1 or not any(map(_is_document, first_lines)):
        yield from spans_of(view[:], told)
        return
    for number, line in enumerate(iter(view.readline, b""), start=1):
        if not line.strip():
            continue
        try:
            yield from spans_of(line, told)
        except NoSpansHere as error:  # a line cut off by a crash, say; told, not fatal
            told.broken(f"line {number} {error}")


def _is_document(line: bytes) -> bool:
    try:
        _DOCUMENT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _of_batch(raw: msgspec.Raw, told: Told) -> Iterator[RawSpan]:
    try:
        batch = _BATCH.decode(raw)
        resource = attributes_of(batch.resource.attributes)
    except (msgspec.DecodeError, ValueError) as error:
        told.broken(f"a batch of spans: {error}")
        return
    service = str(resource.get(names.RESOURCE_SERVICE_NAME, ""))
    pod = str(resource.get(names.RESOURCE_POD) or resource.get(names.RESOURCE_SERVICE_INSTANCE, ""))
    for scope in batch.scope_spans:
        for raw_span in scope.spans:
            told.spans += 1
            try:
                yield _span(_SPAN.decode(raw_span), service=service, pod=pod)
            except (msgspec.DecodeError, ValueError) as error:
                told.broken(f"a span of service {service!r}: {error}")


def _span(span: _Span, *, service: str, pod: str) -> RawSpan:
    events: dict[str, float] = {}
    queued: dict[str, AttributeValue] = {}
    for event in span.events:
        events.setdefault(event.name, int(event.time_unix_nano) / 1e9)
        if event.name == names.EVENT_OFFER:
            queued = attributes_of(event.attributes)
    return RawSpan(
        trace_id=trace_id_of(span.trace_id),
        span_id=span_id_of(span.span_id),
        parent_id=span_id_of(span.parent_span_id),
        name=span.name,
        service=service,
        pod=pod,
        start_s=int(span.start_time_unix_nano) / 1e9,
        end_s=int(span.end_time_unix_nano) / 1e9,
        attributes=attributes_of(span.attributes),
        events=events,
        queued=queued,
    )


def attributes_of(pairs: Iterable[_Pair]) -> dict[str, AttributeValue]:
    """Attributes by name. Raises ValueError for an integer that is none."""
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: _Value) -> AttributeValue:
    if value.array_value is not None:
        return tuple(_scalar(item) for item in value.array_value.values)
    return _scalar(value)


def _scalar(value: _Value) -> Scalar:
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return int(value.int_value)
    if value.double_value is not None:
        return float(value.double_value)
    return False if value.bool_value is None else value.bool_value
