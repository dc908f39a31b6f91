"""Spans as the sidecar makes them, without an export."""

from __future__ import annotations

from llmservice_sidecar.adapters.telemetry_spans import RequestTracer, SpanSink
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind

RESOURCE = Resource({"service.name": "test"})
SCOPE = InstrumentationScope("test", "1", "https://example.org/schema")


class EndedSpans:
    """A SpanSink that keeps everything."""

    def __init__(self) -> None:
        self.spans = list[ReadableSpan]()  # in the order of their ends

    def started(self, context: SpanContext, kind: SpanKind) -> None:
        """Nothing to do: the end has it all."""

    def ended(self, span: ReadableSpan) -> None:
        """Keep it."""
        self.spans.append(span)


def request_tracer(sink: SpanSink, *, sampler: Sampler = ALWAYS_ON) -> RequestTracer:
    """The sidecar's own tracer."""
    return RequestTracer(sink, sampler=sampler, resource=RESOURCE, scope=SCOPE)
