"""A collector that keeps the spans an engine exports, by OTLP over gRPC."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class SpanSink:
    """Listens on a free loopback port while its `with` block lasts."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._arrived = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=1))
        export = grpc.unary_unary_rpc_method_handler(
            self._export,
            request_deserializer=ExportTraceServiceRequest.FromString,
            response_serializer=ExportTraceServiceResponse.SerializeToString,
        )
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Export": export}),)
        )
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def _export(
        self, request: ExportTraceServiceRequest, _context: object
    ) -> ExportTraceServiceResponse:
        with self._arrived:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self._spans.extend(scope.spans)
            self._arrived.notify_all()
        return ExportTraceServiceResponse()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(grace=1).wait()

    def wait_for(self, trace_id: str, name: str, *, timeout_s: float = 20) -> Span:
        """The first span with this name in this trace; raises TimeoutError when none comes."""

        def found() -> Span | None:
            wanted = bytes.fromhex(trace_id)
            spans = (span for span in self._spans if span.trace_id == wanted)
            return next((span for span in spans if span.name == name), None)

        with self._arrived:
            span = self._arrived.wait_for(found, timeout=timeout_s)
        if span is None:
            raise TimeoutError(f"no span {name!r} of trace {trace_id} within {timeout_s:g} s")
        return span


def attributes(span: Span) -> dict[str, Any]:
    """A span's attributes as Python values."""
    values: dict[str, Any] = {}
    for item in span.attributes:
        kind = item.value.WhichOneof("value")
        assert kind is not None, f"attribute {item.key} has no value"
        values[item.key] = getattr(item.value, kind)
    return values
