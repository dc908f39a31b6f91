"""Tracing: configuration errors name the key, samplers sample, a dead collector holds nobody."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from fakes.otlp_receiver import OtlpReceiver
from fakes.spans import request_tracer
from llmservice_api.sidecar_config import ConfigError, TracingConfig
from llmservice_sidecar.adapters.telemetry_tracing import (
    SpanExport,
    Tracing,
    context_of,
    make_tracing,
    traces_url,
)
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-00"}


def tracing(environ: dict[str, str] | None = None, **config: str) -> Tracing:
    return make_tracing(
        msgspec.convert(config, TracingConfig),
        service="chat",
        namespace="team",
        environ=environ or {},
    )


def sampled(span: trace.Span) -> bool:
    return span.get_span_context().trace_flags.sampled


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"exporter": "zipkin"}, "tracing.exporter: 'zipkin' is not one of otlp, otlp-http"),
        ({"sampler": "sometimes"}, "tracing.sampler: 'sometimes' is not one of always_on"),
        ({"sampler_arg": "half"}, "tracing.sampler_arg: 'half' is not a number"),
        ({"sampler_arg": "1.5"}, "tracing.sampler_arg: '1.5' is not between 0 and 1"),
        (
            {"exporter": "otlp-file", "exporter_endpoint": "/proc/none/spans.jsonl"},
            "tracing.exporter_endpoint: '/proc/none/spans.jsonl' cannot be used",
        ),
    ],
)
def test_a_bad_setting_is_refused_with_its_key(config: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tracing({}, **config)


async def test_spans_reach_a_collector_with_the_pod_as_resource() -> None:
    with OtlpReceiver() as receiver:
        subject = tracing(
            {"POD_NAME": "chat-0", "NODE_NAME": "n1", "HOME": "/root"},
            exporter_endpoint=receiver.endpoint,
        )
        subject.tracer.start_span("work", context=context_of(SAMPLED)).end()
        await subject.close()
        (span,) = receiver.spans(TRACE_ID)
    assert span.parent_id == "b7ad6b7169203331"
    assert span.resource == {
        "service.name": "chat",
        "service.namespace": "team",
        "service.version": span.resource["service.version"],
        "service.instance.id": "chat-0",
        "k8s.container.name": "sidecar",
        "k8s.pod.name": "chat-0",
        "k8s.node.name": "n1",
    }


@pytest.mark.parametrize(
    ("sampler", "carrier", "sampled"),
    [
        ("always_on", UNSAMPLED, True),
        ("always_off", SAMPLED, False),
        ("parentbased_always_off", SAMPLED, True),
        ("parentbased_always_on", UNSAMPLED, False),
        ("parentbased_traceidratio", UNSAMPLED, False),
        ("parentbased_traceidratio", SAMPLED, True),
        ("traceidratio", SAMPLED, False),
    ],
)
async def test_sampler_decides_by_parent_and_ratio(
    tmp_path: Path, sampler: str, carrier: dict[str, str], *, sampled: bool
) -> None:
    subject = tracing(
        exporter="otlp-file",
        exporter_endpoint=f"file://{tmp_path}/spans.jsonl",
        sampler=sampler,
        sampler_arg="0",
    )
    span = subject.tracer.start_span("work", context=context_of(carrier))
    assert span.get_span_context().trace_flags.sampled is sampled
    await subject.close()


async def test_sampling_ratio_changes_while_running(tmp_path: Path) -> None:
    subject = tracing(exporter="otlp-file", exporter_endpoint=str(tmp_path / "s"), sampler_arg="0")
    assert not sampled(subject.tracer.start_span("a"))
    subject.sampler.set_arg("1")
    assert sampled(subject.tracer.start_span("b"))
    subject.sampler.set_arg(None)
    assert not sampled(subject.tracer.start_span("c"))
    await subject.close()


def test_without_an_endpoint_the_clients_context_passes_through() -> None:
    span = tracing().tracer.start_span("work", context=context_of(SAMPLED))
    assert not span.is_recording()
    assert trace.format_trace_id(span.get_span_context().trace_id) == TRACE_ID


def test_a_broken_traceparent_starts_a_new_trace() -> None:
    assert (
        not trace.get_current_span(context_of({"traceparent": "junk"})).get_span_context().is_valid
    )


async def test_file_has_one_otlp_json_request_a_line(tmp_path: Path) -> None:
    path = tmp_path / "traces" / "spans.jsonl"
    subject = tracing(exporter="otlp-file", exporter_endpoint=str(path))
    subject.tracer.start_span("work", context=context_of(SAMPLED), kind=trace.SpanKind.SERVER).end()
    await subject.close()
    (line,) = path.read_text().splitlines()
    (span,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (span["traceId"], span["parentSpanId"]) == (TRACE_ID, "b7ad6b7169203331")
    assert span["kind"] == 2


async def test_closing_gives_a_dead_collector_up_after_its_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as silent:  # accepts connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        subject = tracing(exporter_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        subject.tracer.start_span("work").end()
        await subject.close(timeout_s=0.3)
    assert "within 0.3 s; 1 are lost" in caplog.text


class RefusingExporter(SpanExporter):
    """Fails every batch."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.FAILURE


def test_spans_that_the_collector_refuses_are_counted() -> None:
    export = SpanExport(RefusingExporter())
    tracer = request_tracer(export)
    for _ in range(3):
        tracer.start_span("work").end()
    export.shutdown()
    assert export.dropped == 3


def test_spans_beyond_the_bound_are_counted_and_not_kept() -> None:
    export = SpanExport(RefusingExporter(), max_pending=2)
    tracer = request_tracer(export)
    for _ in range(50):
        tracer.start_span("work").end()
    export.shutdown()
    assert export.dropped == 50


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("http://c:4318/otlp/v1/traces", "http://c:4318/otlp/v1/traces"),
    ],
)
def test_http_endpoint_gets_the_signal_path_unless_it_has_one(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url
