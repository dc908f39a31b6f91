"""The sidecar's own spans: on the wire they are what the SDK would have made of the same calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.spans import RESOURCE, SCOPE, EndedSpans, request_tracer
from google.protobuf.json_format import MessageToDict
from llmservice_sidecar.adapters.telemetry_tracing import context_of
from llmservice_sidecar.runtime.ports import Tracer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, AlwaysRecordSampler, Sampler
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

CALLER = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=one,other=two",
}
_OWN = ("traceId", "spanId", "startTimeUnixNano", "endTimeUnixNano")
Story = Callable[[Tracer], None]


def a_request(tracer: Tracer) -> None:
    server = tracer.start_span("POST /", context=context_of(CALLER), kind=SpanKind.SERVER)
    server.set_attributes({"text": "a", "count": 1, "share": 0.5, "yes": True, "ids": ("a", "b")})
    server.set_attribute("count", 2)
    inside = trace.set_span_in_context(server)
    child = tracer.start_span("queue", context=inside)
    child.add_event("offer", {"depth": 0}, timestamp=5)
    child.add_event("admit", timestamp=6)
    child.add_link(SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(1)), {"id": "r"})
    child.end(end_time=9)
    client = tracer.start_span("chat m", context=inside, kind=SpanKind.CLIENT)
    client.set_status(Status(StatusCode.ERROR, "engine gone"))
    client.end()
    server.set_status(StatusCode.OK)
    server.end()


def alone(tracer: Tracer) -> None:
    span = tracer.start_span("work")
    span.update_name("other work")
    span.end()


def used_after_its_end(tracer: Tracer) -> None:
    span = tracer.start_span("work")
    span.end()
    assert not span.is_recording()
    span.set_attribute("late", 1)
    span.set_attributes({"late": 1})
    span.add_event("late")
    span.add_link(span.get_span_context())
    span.set_status(StatusCode.ERROR)
    span.update_name("late")
    span.end()


def from_sdk(story: Story) -> tuple[ReadableSpan, ...]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON, resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    story(provider.get_tracer(SCOPE.name, SCOPE.version, schema_url=SCOPE.schema_url))
    return exporter.get_finished_spans()


def ours(story: Story) -> list[ReadableSpan]:
    ended = EndedSpans()
    story(request_tracer(ended))
    return ended.spans


def on_the_wire(spans: tuple[ReadableSpan, ...] | list[ReadableSpan]) -> object:
    """The export request; of ids and times only whose parent is whose."""
    request = MessageToDict(encode_spans(spans))
    (scope,) = request["resourceSpans"][0]["scopeSpans"]
    names = {span["spanId"]: span["name"] for span in scope["spans"]}
    for span in scope["spans"]:
        parent = span.pop("parentSpanId", None)
        span["parent"] = names.get(parent, parent)
        span["attributes"] = {one["key"]: one["value"] for one in span.get("attributes", [])}
        for own in _OWN:
            del span[own]
    return request


@pytest.mark.parametrize("story", [a_request, alone, used_after_its_end])
def test_the_wire_has_what_the_sdk_would_have_sent(story: Story) -> None:
    assert on_the_wire(ours(story)) == on_the_wire(from_sdk(story))


def test_ids_are_random_and_the_callers_trace_goes_on() -> None:
    spans = [*ours(alone), *ours(alone), *ours(a_request)]
    contexts = [span.context for span in spans if span.context is not None]
    assert len({context.span_id for context in contexts}) == 5
    assert len({context.trace_id for context in contexts}) == 3
    assert all(context.is_valid for context in contexts)
    assert {trace.format_trace_id(context.trace_id) for context in contexts[2:]} == {
        "0af7651916cd43dd8448eb211c80319c"
    }
    assert contexts[2].trace_state.get("other") == "two"


@pytest.mark.parametrize(
    ("sampler", "recorded"), [(ALWAYS_OFF, False), (AlwaysRecordSampler(ALWAYS_OFF), True)]
)
def test_a_span_within_a_request_has_what_the_request_got(
    sampler: Sampler, *, recorded: bool
) -> None:
    tracer = request_tracer(EndedSpans(), sampler=sampler)
    server = tracer.start_span("POST /", kind=SpanKind.SERVER)
    child = tracer.start_span("queue", context=trace.set_span_in_context(server))
    for span in (server, child):
        assert span.is_recording() is recorded
        assert not span.get_span_context().trace_flags.sampled
    mine, above = child.get_span_context(), server.get_span_context()
    assert mine.trace_id == above.trace_id
    assert mine.span_id != above.span_id


def test_of_an_exception_only_its_type_is_told() -> None:
    ended = EndedSpans()
    span = request_tracer(ended).start_span("work")
    span.record_exception(ValueError("the prompt was: my secret"))
    span.end()
    (event,) = ended.spans[0].events
    assert event.attributes == {"exception.type": "ValueError"}
