"""What a scrape shows: counts by outcome, waits with exemplars, gauges read at the moment."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from llmservice_api.status_report import (
    ModelPredictionReport,
    PredictorReport,
    QueueReport,
    SecurityReport,
)
from llmservice_sidecar.adapters.telemetry_gauges import Gauges
from llmservice_sidecar.adapters.telemetry_merge import as_open_metrics, merge_engine_metrics
from llmservice_sidecar.adapters.telemetry_metrics import PrometheusMetrics
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.runtime.ports import RequestEnd
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_families,  # pyright: ignore[reportUnknownVariableType] - untyped there
)
from prometheus_client.parser import text_string_to_metric_families

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
END = RequestEnd(
    outcome=Outcome.COMPLETED,
    reason=Reason.STOP,
    operation="chat",
    model="tiny",
    duration_s=2.0,
    service_s=1.6,
    first_token_s=1.0,
    input_tokens=7,
    output_tokens=11,
    predicted_tokens=22.0,
    trace_id=TRACE_ID,
)
QUEUE = QueueReport(
    policy="SSJF",
    order="FCFS",
    queued_requests=5,
    queued_tokens=640.0,
    in_flight_slots=4,
    limit_slots=4,
    limit_reason="max_concurrency",
    look_ahead_slots=1,
    backlog_s=2.5,
    longest_wait_s=7.0,
    gamma_per_s=0.2,
)
PREDICTOR = PredictorReport(mode="Enforce", kind="Default", state="Ready", tau=0.5, samples=300)

ENGINE_TEXT = """\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a b"} 2.0
vllm:num_requests_waiting{engine="1",model_name="a b"} 1.0
# HELP vllm:num_requests_waiting_by_reason By reason.
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{reason="kv"} 9.0
"""


def samples(metrics: PrometheusMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = metrics.render()[0].decode()
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def watched(
    queue: QueueReport = QUEUE, predictor: PredictorReport = PREDICTOR, *, is_up: bool = True
) -> PrometheusMetrics:
    metrics = PrometheusMetrics(models=["tiny"])
    metrics.watch(
        Gauges(
            queue=lambda: queue,
            predictor=lambda: predictor,
            engine_up=lambda: is_up,
            draining=lambda: False,
            security=SecurityReport,
            dropped_spans=lambda: 3,
        )
    )
    return metrics


def test_ends_are_counted_by_outcome_and_reason() -> None:
    metrics = PrometheusMetrics(models=["tiny"])
    metrics.finished(END)
    metrics.finished(replace(END, outcome=Outcome.REJECTED, reason=Reason.QUEUE_FULL))
    seen = samples(metrics)
    completed = frozenset({("outcome", "completed"), ("reason", "stop")})
    rejected = frozenset({("outcome", "rejected"), ("reason", "queue_full")})
    assert seen["llmservice_requests_total", completed] == 1
    assert seen["llmservice_requests_total", rejected] == 1


def test_only_completed_requests_are_timed_and_faults_beside_them() -> None:
    metrics = PrometheusMetrics(models=["tiny"])
    metrics.finished(END)
    metrics.finished(replace(END, outcome=Outcome.FAILED, reason=Reason.ENGINE_DOWN))
    metrics.finished(replace(END, outcome=Outcome.REJECTED, reason=Reason.QUEUE_FULL))
    metrics.finished(replace(END, outcome=Outcome.CANCELLED, reason=Reason.CLIENT_GONE))
    seen = samples(metrics)
    labels = frozenset(
        {
            ("gen_ai_operation_name", "chat"),
            ("gen_ai_provider_name", "vllm"),
            ("gen_ai_request_model", "tiny"),
        }
    )
    duration = {
        dict(found)["error_type"]: count
        for (name, found), count in seen.items()
        if name == "gen_ai_server_request_duration_seconds_count" and labels <= found
    }
    assert duration == {"": 1, "engine_down": 1}
    assert seen["gen_ai_server_time_to_first_token_seconds_sum", labels] == 1.0
    assert seen["gen_ai_server_time_per_output_token_seconds_sum", labels] == pytest.approx(0.1)
    assert seen["llmservice_prediction_error_ratio_sum", frozenset()] == 2.0
    assert seen["llmservice_slowdown_ratio_sum", frozenset()] == 1.25


def test_gauges_show_the_gate_and_the_predictor_at_the_moment_of_the_scrape() -> None:
    seen = samples(watched())
    assert seen["llmservice_queued_requests", frozenset()] == 5
    assert seen["llmservice_limit_slots", frozenset({("reason", "max_concurrency")})] == 4
    assert seen["llmservice_backlog_seconds", frozenset()] == 2.5
    assert seen["llmservice_longest_wait_seconds", frozenset()] == 7.0
    assert seen["llmservice_look_ahead_slots", frozenset()] == 1
    info = {("policy", "SSJF"), ("order", "FCFS"), ("mode", "Enforce")}
    assert seen["llmservice_scheduling_info", frozenset(info)] == 1
    assert seen["llmservice_gamma_per_second", frozenset()] == 0.2
    assert seen["llmservice_predictor_tau", frozenset()] == 0.5
    assert seen["llmservice_spans_dropped_total", frozenset()] == 3


def test_a_replica_that_loads_its_model_tells_no_backlog_rather_than_none() -> None:
    seen = samples(watched(is_up=False))
    assert ("llmservice_backlog_seconds", frozenset()) not in seen
    assert seen["llmservice_engine_up", frozenset()] == 0.0


def test_the_error_of_expected_waits_is_of_those_that_had_to_wait() -> None:
    metrics = watched()
    metrics.left_queue(wait_s=4.0, predicted_wait_s=2.0)
    metrics.left_queue(wait_s=4.0)
    metrics.left_queue(wait_s=0.0, predicted_wait_s=0.0)
    seen = samples(metrics)
    assert seen["llmservice_queue_wait_error_ratio_count", frozenset()] == 1
    assert seen["llmservice_queue_wait_error_ratio_sum", frozenset()] == 0.5
    assert seen["llmservice_queue_wait_seconds_count", frozenset()] == 3


def test_an_unknown_figure_is_absent_and_not_zero() -> None:
    unknown = msgspec.structs.replace(PREDICTOR, tau=None)
    seen = {name for name, _ in samples(watched(predictor=unknown))}
    assert "llmservice_predictor_tau" not in seen
    assert "llmservice_estimated_gain_ratio" not in seen


def test_openmetrics_carries_the_trace_id_as_exemplar() -> None:
    metrics = watched()
    metrics.left_queue(wait_s=0.3, trace_id=TRACE_ID)
    metrics.finished(END)
    body, content_type = metrics.render(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    exemplars = {
        family.name
        for family in open_families(body.decode())
        for s in family.samples
        if s.exemplar is not None and s.exemplar.labels == {"trace_id": TRACE_ID}
    }
    assert {"llmservice_queue_wait_seconds", "gen_ai_server_request_duration_seconds"} <= exemplars


def test_clients_cannot_make_new_series() -> None:
    metrics = PrometheusMetrics(models=["tiny"])
    metrics.finished(END)
    series: set[int] = set()
    for i in range(10_000):
        metrics.finished(replace(END, model=f"made-up-{i}"))
        metrics.predicted(source=f"source-{i}", duration_s=0.001)
        if i in (99, 9_999):
            series.add(len(samples(metrics)))
    assert len(series) == 1, "the page grew with the names that clients made up"
    counts = [
        (dict(labels)["gen_ai_request_model"], count)
        for (name, labels), count in samples(metrics).items()
        if name == "gen_ai_server_request_duration_seconds_count"
    ]
    assert sorted(counts) == [("other", 10_000.0), ("tiny", 1.0)]
    names = [name for name, _ in samples(metrics)]
    assert names.count("llmservice_predictions_total") == 17


def test_merged_waiting_gauge_counts_our_queue_once() -> None:
    merged = merge_engine_metrics(ENGINE_TEXT, "ours 1.0\n", queued_requests=5)
    seen = {
        (s.name, s.labels.get("engine")): s.value
        for family in text_string_to_metric_families(merged)
        for s in family.samples
    }
    assert seen["vllm:num_requests_waiting", "0"] == 7
    assert seen["vllm:num_requests_waiting", "1"] == 1
    assert seen["llmservice_engine_requests_waiting", "0"] == 2
    assert seen["vllm:num_requests_waiting_by_reason", None] == 9
    assert seen["ours", None] == 1


def test_merged_openmetrics_ends_once() -> None:
    ours = watched().render(OPENMETRICS)[0].decode()
    merged = merge_engine_metrics(ENGINE_TEXT + "# EOF\n", ours, queued_requests=0)
    assert merged.count("# EOF") == 1
    assert [f.name for f in open_families(merged)].count("llmservice_engine_requests_waiting") == 1


def test_the_engines_text_can_stand_beside_our_exemplars() -> None:
    counter = PrometheusMetrics(models=["tiny"])
    counter.finished(END)
    text = (
        ENGINE_TEXT + counter.render()[0].decode().replace("llmservice_", "vllm:") + "# remark\n\n"
    )
    page = as_open_metrics(text.replace("gen_ai_", "vllm:gen_ai_"))
    ours = watched()
    ours.left_queue(wait_s=0.3, trace_id=TRACE_ID)
    merged = merge_engine_metrics(page, ours.render(OPENMETRICS)[0].decode(), queued_requests=5)
    families = {family.name: family for family in open_families(merged)}
    assert families["vllm:requests"].type == "counter"
    assert {s.name for s in families["vllm:requests"].samples} >= {"vllm:requests_total"}
    assert families["vllm:num_requests_waiting"].samples[0].value == 7
    waits = families["llmservice_queue_wait_seconds"].samples
    assert [s.exemplar.labels for s in waits if s.exemplar] == [{"trace_id": TRACE_ID}]


def test_our_metrics_never_share_a_name_with_the_engine() -> None:
    ours = {f.name for f in text_string_to_metric_families(watched().render()[0].decode())}
    assert ours
    assert all(name.startswith(("llmservice_", "gen_ai_server_")) for name in ours)


def test_each_known_model_has_its_rank_and_coverage() -> None:
    judged = ModelPredictionReport(
        samples=300, trusted=False, tau=0.05, coverage_p50=0.5, coverage_p90=0.9
    )
    models = {"tiny": judged, "unheard": judged, "adapter": ModelPredictionReport()}
    predictor = msgspec.structs.replace(PREDICTOR, models=models, timeouts=3, failures=2)
    predictor = msgspec.structs.replace(predictor, fallbacks={"late": 3, "no_answer": 2})
    metrics = PrometheusMetrics(models=("tiny", "adapter"))
    metrics.watch(
        Gauges(
            queue=lambda: QUEUE,
            predictor=lambda: predictor,
            engine_up=lambda: True,
            draining=lambda: False,
            security=SecurityReport,
            dropped_spans=lambda: 0,
        )
    )
    found = samples(metrics)
    tiny = ("gen_ai_request_model", "tiny")
    assert found["llmservice_predictor_model_tau", frozenset({tiny})] == 0.05
    assert found["llmservice_predictor_model_trusted", frozenset({tiny})] == 0.0
    p90 = frozenset({tiny, ("quantile", "0.9")})
    assert found["llmservice_predictor_coverage", p90] == 0.9
    adapter = frozenset({("gen_ai_request_model", "adapter")})
    assert found["llmservice_predictor_model_trusted", adapter] == 1.0
    assert ("llmservice_predictor_model_tau", adapter) not in found, "unknown is absent"
    assert not [labels for _, labels in found if ("gen_ai_request_model", "unheard") in labels]
    assert found["llmservice_predictor_timeouts_total", frozenset()] == 3
    assert found["llmservice_predictor_failures_total", frozenset()] == 2
    late = frozenset({("reason", "late")})
    assert found["llmservice_predictor_fallbacks_total", late] == 3
