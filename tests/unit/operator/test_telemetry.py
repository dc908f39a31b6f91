"""What a look leaves behind: figures, spans, and log lines that say which service they mean."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest
from fakes.cluster import FakeCluster
from fakes.manifests import deployment, pod, resource
from llmservice_api import names
from llmservice_operator import structured_log
from llmservice_operator.cluster import ClusterError, Refused, ServiceKey, ref_of
from llmservice_operator.conditions import Condition, Truth
from llmservice_operator.kube_json import Manifest
from llmservice_operator.leader_election import NotLeader
from llmservice_operator.metrics import Metrics
from llmservice_operator.telemetry import Telemetry, TracedCluster, reason_of
from llmservice_operator.tracing import TracingError, make_tracing
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

KEY = ServiceKey("ns", "svc")


class Bench:
    """Telemetry around a cluster in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        tracer = provider.get_tracer("test")
        self.metrics = Metrics(depth=lambda: 3, leading=lambda: True, blind_s=lambda: 0.0)
        self.telemetry = Telemetry(tracer, self.metrics)
        self.fake = FakeCluster(resource())
        self.seen: list[Manifest] = []
        self.cluster = TracedCluster(
            self.fake, tracer=tracer, metrics=self.metrics, seen=self.seen.append
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"llmservice_operator_{name}", labels)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


async def test_writes_are_spans_below_their_look() -> None:
    bench = Bench()

    async def reconcile(key: ServiceKey) -> float:
        assert await bench.cluster.get(key.ref)
        await bench.cluster.apply(resource(suspend=True))
        await bench.cluster.apply(resource(), subresource="status")
        await bench.cluster.delete(key.ref, uid="uid-svc")
        return 7.0

    assert await bench.telemetry.look(KEY, reconcile) == 7.0
    spans = bench.spans()
    assert set(spans) == {
        "reconcile", "apply LLMService", "apply LLMService/status", "delete LLMService",
    }  # fmt: skip
    look = spans.pop("reconcile")
    assert look.attributes == {"llmservice.namespace": "ns", "llmservice.name": "svc"}
    context = look.get_span_context()
    assert context is not None
    assert {span.parent and span.parent.span_id for span in spans.values()} == {context.span_id}
    assert bench.value("reconcile_seconds_count") == 1
    assert bench.value("api_requests_total", verb="apply", kind="LLMService", result="ok") == 2
    assert bench.value("api_requests_total", verb="get", kind="LLMService", result="ok") == 1


async def test_a_look_that_fails_is_counted_by_its_reason_and_marked() -> None:
    bench = Bench()

    async def reconcile(_: ServiceKey) -> None:
        raise Refused("Forbidden", "not yours")

    with pytest.raises(Refused):
        await bench.telemetry.look(KEY, reconcile)
    look = bench.spans()["reconcile"]
    assert (look.status.status_code, look.status.description) == (StatusCode.ERROR, "not yours")
    assert look.attributes
    assert look.attributes["error.type"] == "Forbidden"
    assert bench.value("reconcile_errors_total", reason="Forbidden") == 1


async def test_a_status_of_a_service_that_has_gone_is_no_error_of_its_span() -> None:
    bench = Bench()
    bench.fake.refusals["status"] = Refused("NotFound", "gone")
    with pytest.raises(Refused):
        await bench.cluster.apply(resource(), subresource="status")
    assert bench.spans()["apply LLMService/status"].status.status_code is StatusCode.UNSET
    labels = {"verb": "apply", "kind": "LLMService", "result": "NotFound"}
    assert bench.value("api_requests_total", **labels) == 1


async def test_what_is_read_with_our_label_is_shown() -> None:
    bench = Bench()
    labelled = deployment(ready=1)
    labelled["metadata"]["labels"] = {names.LABEL_NAME: "svc"}
    bench.fake.put(labelled)
    bench.fake.put(pod(ready=True))
    assert await bench.cluster.get(KEY.ref)
    assert await bench.cluster.get(ref_of(labelled))
    assert await bench.cluster.pods_of(KEY)
    assert [manifest["kind"] for manifest in bench.seen] == ["Deployment", "Pod"]
    assert bench.cluster.capabilities == bench.fake.capabilities


def condition(kind: str, status: Truth) -> Condition:
    return Condition(
        type=kind, status=status, reason="R", message="", observed_generation=1,
        since=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def test_services_are_counted_by_condition_and_not_by_name() -> None:
    bench = Bench()
    for number in range(50):
        status = Truth.TRUE if number < 20 else Truth.FALSE
        bench.telemetry.judged(ServiceKey("ns", f"a-{number}"), [condition("Ready", status)])
    bench.telemetry.judged(ServiceKey("ns", "a-0"), [condition("Ready", Truth.FALSE)])
    bench.telemetry.gone(ServiceKey("ns", "a-1"))
    assert bench.value("services", condition="Ready", status="True") == 18
    assert bench.value("services", condition="Ready", status="False") == 31
    page = bench.metrics.text().decode()
    assert "a-4" not in page
    assert "llmservice_operator_queue_depth 3.0" in page
    assert "process_resident_memory_bytes" in page


def test_a_word_that_nobody_knows_makes_no_series_of_its_own() -> None:
    bench = Bench()
    for number in range(50):
        bench.metrics.looked(0.1, error=f"Odd{number}")
    bench.metrics.called("get", "Pod", result="Odder")
    assert bench.value("reconcile_errors_total", reason="Other") == 50
    assert bench.value("api_requests_total", verb="get", kind="Pod", result="Other") == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Refused("Invalid", "no"), "Invalid"),
        (NotLeader("no"), "NotLeader"),
        (ClusterError("away"), "Unreachable"),
        (TimeoutError(), "Timeout"),
        (KeyError("a"), "Unexpected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_failure_has_one_word(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def logged(record: logging.LogRecord) -> dict[str, str]:
    line: dict[str, str] = json.loads(structured_log.JsonFormatter().format(record))
    return line


def record(message: str, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "f", 1, message, (), None)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_a_line_says_which_service_it_is_about() -> None:
    with structured_log.about(KEY):
        structured_log.learn(uid="u-1")
        line = logged(record("hello", reason="Suspended"))
        assert "[ns/svc] hello" in structured_log.TextFormatter().format(record("hello"))
    assert (line["namespace"], line["name"], line["uid"]) == ("ns", "svc", "u-1")
    assert (line["level"], line["message"], line["reason"]) == ("warning", "hello", "Suspended")
    assert "namespace" not in logged(record("later"))
    assert structured_log.TextFormatter().format(record("later")).endswith("a.b: later")


def test_lines_of_the_queue_and_of_kopf_name_theirs_too() -> None:
    assert logged(record("x", about=KEY))["name"] == "svc"
    reference = {"kind": "LLMService", "namespace": "n", "name": "m", "uid": None}
    line = logged(record("x", k8s_ref=reference))
    assert (line["namespace"], line["name"], "uid" in line) == ("n", "m", False)


def test_a_traceback_is_one_line_of_json() -> None:
    error = ValueError("broken")
    made = record("x")
    made.exc_info = (ValueError, error, None)
    text = structured_log.JsonFormatter().format(made)
    assert "\n" not in text
    assert "broken" in json.loads(text)["traceback"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=["nothing said", "an empty endpoint", "switched off", "no exporter"],
)
async def test_without_a_place_for_them_no_spans_are_made(environ: dict[str, str]) -> None:
    tracing = make_tracing(environ)
    with tracing.tracer.start_as_current_span("a") as span:
        assert not span.is_recording()
    await tracing.close()


async def test_spans_say_which_operator_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=east")
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "POD_NAME": "operator-1",
        "POD_NAMESPACE": "llm",
    }
    tracing = make_tracing(environ)
    span = tracing.tracer.start_span("a")
    assert isinstance(span, ReadableSpan)
    told = span.resource.attributes
    assert (told["service.name"], told["service.instance.id"], told["k8s.cluster.name"]) == (
        "llmservice-operator", "operator-1", "east",
    )  # fmt: skip
    await tracing.close()


@pytest.mark.parametrize(
    "name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]
)
def test_a_protocol_that_is_not_spoken_is_refused_with_its_variable(name: str) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4317", name: "grpc"}
    with pytest.raises(TracingError) as refused:
        make_tracing(environ)
    assert f"{name} is 'grpc'" in str(refused.value)
