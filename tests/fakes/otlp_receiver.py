"""A real OTLP/gRPC server in this process that keeps the spans it is sent.

Stands at the seam to a trace collector; tests/unit/telemetry/test_tracing.py tests it too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,  # pyright: ignore[reportUnknownVariableType] - generated
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | bool | int | float | list["Value"]


@dataclass(frozen=True, kw_only=True)
class ReceivedSpan:
    """One span as a collector sees it; ids in hex, times in nanoseconds since the epoch."""

    name: str
    kind: str  # "SERVER", "CLIENT", "INTERNAL"
    trace_id: str
    span_id: str
    parent_id: str  # "" for a root
    start_ns: int
    end_ns: int
    attributes: dict[str, Value]
    events: dict[str, dict[str, Value]]
    status: str  # "UNSET", "OK", "ERROR"
    status_message: str
    resource: dict[str, Value]


@dataclass
class OtlpReceiver(TraceServiceServicer):
    """Use as a context manager; `endpoint` is what an exporter is given."""

    endpoint: str = ""
    raw: list[bytes] = field(default_factory=list[bytes])
    # Where everything is passed on to, as a collector between programs and a store does.
    relays: list[Callable[[ExportTraceServiceRequest], object]] = field(
        default_factory=list[Callable[[ExportTraceServiceRequest], object]]
    )
    _spans: list[ReceivedSpan] = field(default_factory=list[ReceivedSpan])
    _arrived: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> OtlpReceiver:
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2))
        add_TraceServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait(5)

    def Export(  # noqa: N802 - the name in the proto
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        del context
        with self._arrived:
            self.raw.append(request.SerializeToString())
            self._spans.extend(_spans_of(request))
            self._arrived.notify_all()
        for relay in self.relays:
            relay(request)
        return ExportTraceServiceResponse()

    def spans(self, trace_id: str | None = None) -> list[ReceivedSpan]:
        """What has arrived so far, of one trace or of all, by start time."""
        with self._arrived:
            found = [s for s in self._spans if trace_id in (None, s.trace_id)]
        return sorted(found, key=lambda s: s.start_ns)

    def wait_for(
        self, ready: Callable[[Sequence[ReceivedSpan]], bool], *, timeout_s: float = 15.0
    ) -> list[ReceivedSpan]:
        """Block until `ready(all spans)`; AssertionError with what did arrive otherwise."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: ready(self._spans), timeout_s):
                seen = [(s.name, s.trace_id[:8]) for s in self._spans]
                raise AssertionError(f"spans did not arrive within {timeout_s} s; seen: {seen}")
            return list(self._spans)

    def wait_for_trace(
        self, trace_id: str, names: Sequence[str], *, timeout_s: float = 15.0
    ) -> dict[str, ReceivedSpan]:
        """Block until the trace has a span of each name; the spans by name."""

        def complete(spans: Sequence[ReceivedSpan]) -> bool:
            return set(names) <= {s.name for s in spans if s.trace_id == trace_id}

        self.wait_for(complete, timeout_s=timeout_s)
        return {s.name: s for s in self.spans(trace_id)}


def _spans_of(request: ExportTraceServiceRequest) -> list[ReceivedSpan]:
    return [
        _received(span, _attributes(resource.resource.attributes))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _received(span: Span, resource: dict[str, Value]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events={event.name: _attributes(event.attributes) for event in span.events},
        status=("UNSET", "OK", "ERROR")[span.status.code],
        status_message=span.status.message,
        resource=resource,
    )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "bool_value":
        return value.bool_value
    if kind == "int_value":
        return value.int_value
    return value.double_value if kind == "double_value" else value.string_value
