"""Traces that the head left out: whole or not at all, bounded, and marked by who kept them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.spans import request_tracer
from llmservice_api.sidecar_config import TracingConfig
from llmservice_sidecar.adapters.telemetry_tail import HeldSpans
from llmservice_sidecar.adapters.telemetry_tracing import Tracing, context_of, make_tracing
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.ports import Tracer
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, AlwaysRecordSampler
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def tracing(path: Path, **config: str) -> Tracing:
    static = msgspec.convert(
        {"exporter": "otlp-file", "exporter_endpoint": str(path), **config}, TracingConfig
    )
    return make_tracing(static, service="chat", namespace="team", environ={})


def serve(tracer: Tracer, *, kept_by: str | None, late: bool = False) -> str:
    """A request with two children, the second of which may end `late`; its trace id."""
    parent = context_of({"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-00"})
    server = tracer.start_span("POST /", context=parent, kind=SpanKind.SERVER)
    inside = trace.set_span_in_context(server)
    queue = tracer.start_span("queue", context=inside)
    predict = tracer.start_span("predict_length", context=inside)
    queue.end()
    if not late:
        predict.end()
    if kept_by is not None:
        server.set_attribute(names.ATTR_SAMPLED_BY, kept_by)
    server.end()
    if late:
        predict.end()
    return trace.format_trace_id(server.get_span_context().trace_id)


def exported(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        span
        for line in lines
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


@pytest.mark.parametrize("late", [False, True], ids=["in time", "a child ends after the request"])
async def test_a_kept_request_leaves_whole(tmp_path: Path, *, late: bool) -> None:
    subject = tracing(tmp_path / "spans")
    trace_id = serve(subject.tracer, kept_by="error", late=late)
    await subject.close()
    spans = exported(tmp_path / "spans")
    assert sorted(span["name"] for span in spans) == ["POST /", "predict_length", "queue"]
    assert {span["traceId"] for span in spans} == {trace_id}
    assert subject.dropped_spans == 0


@pytest.mark.parametrize(
    ("sampler", "kept_by"),
    [
        ("parentbased_traceidratio", None),
        ("always_off", "error"),
        ("parentbased_always_off", "error"),
    ],
    ids=["nobody keeps it", "always_off stays off", "parentbased_always_off stays off"],
)
async def test_nothing_leaves_when(tmp_path: Path, sampler: str, kept_by: str | None) -> None:
    subject = tracing(tmp_path / "spans", sampler=sampler)
    serve(subject.tracer, kept_by=kept_by)
    await subject.close()
    assert exported(tmp_path / "spans") == []


async def test_the_engine_is_told_what_the_head_decided(tmp_path: Path) -> None:
    subject = tracing(tmp_path / "spans")
    state = "vendor=one,other=two"
    carrier = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-00", "tracestate": state}
    server = subject.tracer.start_span("POST /", context=context_of(carrier), kind=SpanKind.SERVER)
    client = subject.tracer.start_span(
        "chat m", context=trace.set_span_in_context(server), kind=SpanKind.CLIENT
    )
    sent = dict[str, str]()
    TraceContextTextMapPropagator().inject(sent, context=trace.set_span_in_context(client))
    assert client.is_recording()
    assert not trace.get_current_span(context_of(sent)).get_span_context().trace_flags.sampled
    assert sent["tracestate"] == state
    await subject.close()


class Collecting:
    """Held spans with a small bound, and what they let through."""

    def __init__(self, most: int) -> None:
        self.kept: list[str] = []
        self.lost = 0
        self.held = HeldSpans(
            keep=lambda span: self.kept.append(span.name), lose=self._lose, most=most
        )

    def _lose(self, count: int) -> None:
        self.lost += count

    def started(self, context: SpanContext, kind: SpanKind) -> None:
        self.held.started(context, kind)

    def ended(self, span: ReadableSpan) -> None:
        self.held.ended(span)


def unsampled(collecting: Collecting) -> Tracer:
    return request_tracer(collecting, sampler=AlwaysRecordSampler(ALWAYS_OFF))


def test_what_is_held_is_bounded_and_what_a_kept_trace_lacks_is_counted() -> None:
    collecting = Collecting(most=1)
    serve(unsampled(collecting), kept_by="slow")
    assert collecting.kept == ["queue", "POST /"]
    assert collecting.lost == 1


def test_nothing_is_held_of_requests_that_have_ended() -> None:
    collecting = Collecting(most=1000)
    tracer = unsampled(collecting)
    for number in range(300):
        serve(tracer, kept_by="slow" if number % 2 else None, late=number % 3 == 0)
    assert len(collecting.held) == 0
    assert collecting.kept.count("POST /") == 150
    assert collecting.kept.count("predict_length") == 150
    assert collecting.lost == 0
