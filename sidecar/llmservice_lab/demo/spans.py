"""Spans as values, from what exporters sent; and back to a file that Jaeger's Upload opens.

OTLP's JSON is protobuf's JSON but for ids: they are hex there, base64 here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

AttributeValue = str | int | float | bool
JsonObject = dict[str, Any]  # OTLP JSON

_ID_FIELDS: Final = ("traceId", "spanId", "parentSpanId")
_CLIENT_KIND: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One finished span; times are seconds since the epoch, ids lower-case hex."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    start_s: float
    end_s: float
    attributes: Mapping[str, AttributeValue]

    @property
    def duration_s(self) -> float:
        """From start to end."""
        return self.end_s - self.start_s


def decode(payloads: Iterable[bytes]) -> list[Span]:
    """All spans in serialised export requests. Raises google.protobuf.message.DecodeError."""
    spans: list[Span] = []
    for payload in payloads:
        request = ExportTraceServiceRequest.FromString(payload)
        for resource_spans in request.resource_spans:
            service = str(_attributes(resource_spans.resource.attributes).get("service.name", ""))
            for scope_spans in resource_spans.scope_spans:
                spans += [
                    Span(
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        name=span.name,
                        service=service,
                        start_s=span.start_time_unix_nano / 1e9,
                        end_s=span.end_time_unix_nano / 1e9,
                        attributes=_attributes(span.attributes),
                    )
                    for span in scope_spans.spans
                ]
    return spans


def to_otlp_json(payloads: Iterable[bytes], *, trace_ids: Collection[str]) -> list[JsonObject]:
    """The `resourceSpans` of the named traces, as OTLP JSON."""
    wanted = {bytes.fromhex(trace_id) for trace_id in trace_ids}
    result: list[JsonObject] = []
    for payload in payloads:
        request = ExportTraceServiceRequest.FromString(payload)
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                kept = [span for span in scope_spans.spans if span.trace_id in wanted]
                del scope_spans.spans[:]
                scope_spans.spans.extend(kept)
            if any(scope_spans.spans for scope_spans in resource_spans.scope_spans):
                encoded = MessageToDict(resource_spans, use_integers_for_enums=True)
                result.append(_with_hex_ids(encoded))
    return result


def client_resource_spans(spans: Iterable[Span], *, service: str) -> JsonObject:
    """Spans of our own making (kind CLIENT) under one resource, as OTLP JSON."""
    return {
        "resource": {"attributes": [_key_value("service.name", service)]},
        "scopeSpans": [
            {
                "scope": {"name": "llmservice_lab"},
                "spans": [
                    {
                        "traceId": span.trace_id,
                        "spanId": span.span_id,
                        "name": span.name,
                        "kind": _CLIENT_KIND,
                        "startTimeUnixNano": str(round(span.start_s * 1e9)),
                        "endTimeUnixNano": str(round(span.end_s * 1e9)),
                        "attributes": [_key_value(k, v) for k, v in span.attributes.items()],
                        "status": {},
                    }
                    for span in spans
                ],
            }
        ],
    }


def write_traces(path: Path, resource_spans: list[JsonObject]) -> None:
    """Write one OTLP JSON file."""
    path.write_text(json.dumps({"resourceSpans": resource_spans}, separators=(",", ":")))


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, AttributeValue]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> AttributeValue:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bool_value":
            return value.bool_value
        case "array_value":
            return ",".join(str(_plain(item)) for item in value.array_value.values)
        case _:
            return str(value)


def _with_hex_ids(resource_spans: JsonObject) -> JsonObject:
    for scope_spans in resource_spans["scopeSpans"]:
        for span in scope_spans.get("spans", ()):
            for holder in (span, *span.get("links", ())):
                for name in _ID_FIELDS:
                    if name in holder:
                        holder[name] = base64.b64decode(holder[name]).hex()
    return resource_spans


def _key_value(key: str, value: AttributeValue) -> JsonObject:
    match value:
        case bool():
            return {"key": key, "value": {"boolValue": value}}
        case int():
            return {"key": key, "value": {"intValue": str(value)}}
        case float():
            return {"key": key, "value": {"doubleValue": value}}
        case str():
            return {"key": key, "value": {"stringValue": value}}
