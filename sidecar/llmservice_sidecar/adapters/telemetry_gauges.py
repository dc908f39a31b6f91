"""What is read at the moment of a scrape: the gate, the predictor, the engine's health."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from llmservice_api.status_report import (
    ModelPredictionReport,
    PredictorReport,
    QueueReport,
    SecurityReport,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from llmservice_sidecar.runtime import telemetry_names as names


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is read at the moment of a scrape; every function returns at once."""

    queue: Callable[[], QueueReport]
    predictor: Callable[[], PredictorReport]
    engine_up: Callable[[], bool]
    draining: Callable[[], bool]
    dropped_spans: Callable[[], int]
    security: Callable[[], SecurityReport]


class GaugeCollector(Collector):
    """Makes metrics of `gauges` on every scrape. `models`: the names that may be label values."""

    def __init__(self, gauges: Gauges, *, models: Collection[str]) -> None:
        self._gauges = gauges
        self._models = models

    def collect(self) -> Iterable[Metric]:
        """The gate, the predictor and the engine now."""
        predictor, queue = self._gauges.predictor(), self._gauges.queue()
        is_up = self._gauges.engine_up()
        yield from _queue_gauges(queue)
        yield InfoMetricFamily(
            names.METRIC_SCHEDULING,
            "The policy that is configured, the order that is served, and the predictor's mode.",
            value={
                names.LABEL_POLICY: queue.policy,
                names.LABEL_ORDER: queue.order,
                names.LABEL_MODE: predictor.mode,
            },
        )
        if is_up:
            # Absent while a model loads: an autoscaler would take 0 for a replica without work.
            text = "Predicted seconds of work per slot, now."
            yield _gauge(names.METRIC_BACKLOG, text, queue.backlog_s)
        yield from _predictor_gauges(predictor)
        yield from _model_gauges(
            {name: model for name, model in predictor.models.items() if name in self._models}
        )
        yield _gauge(names.METRIC_ENGINE_UP, "1 while the engine answers.", float(is_up))
        yield _gauge(
            names.METRIC_DRAINING, "1 while the pod is leaving.", float(self._gauges.draining())
        )
        yield from _security_gauges(self._gauges.security())
        yield CounterMetricFamily(
            names.METRIC_SPANS_DROPPED,
            "Sampled spans that were not exported.",
            value=self._gauges.dropped_spans(),
        )


def _queue_gauges(queue: QueueReport) -> Iterator[Metric]:
    yield _gauge(names.METRIC_QUEUED, "Requests waiting for a slot.", queue.queued_requests)
    yield _gauge(
        names.METRIC_QUEUED_TOKENS, "Predicted output tokens of the queue.", queue.queued_tokens
    )
    yield _gauge(
        names.METRIC_LONGEST_WAIT,
        "Seconds that the longest-waiting request has waited so far; 0: nobody waits.",
        queue.longest_wait_s,
    )
    yield _gauge(names.METRIC_IN_FLIGHT, "Slots in use by the engine.", queue.in_flight_slots)
    limit = GaugeMetricFamily(
        names.METRIC_LIMIT,
        "Slots that may be in use, by what sets it.",
        labels=[names.LABEL_REASON],
    )
    limit.add_metric([queue.limit_reason], queue.limit_slots)
    yield limit
    yield _gauge(
        names.METRIC_LOOK_AHEAD,
        "Slots of the limit beyond what sets it, so that none stands empty unnoticed.",
        queue.look_ahead_slots,
    )
    yield _gauge(
        names.METRIC_GAMMA, "Strength of waiting against size in the order.", queue.gamma_per_s
    )


def _predictor_gauges(predictor: PredictorReport) -> Iterator[Metric]:
    yield _gauge(
        names.METRIC_CALIBRATION_SAMPLES,
        "Requests that the predictor is judged by.",
        predictor.samples,
    )
    counters = (
        (names.METRIC_TIMEOUTS, "Predictions that came after the deadline.", predictor.timeouts),
        (names.METRIC_FAILURES, "Times that the predictor failed.", predictor.failures),
    )
    for name, help_text, count in counters:
        yield CounterMetricFamily(name, help_text, value=count)
    fallbacks = CounterMetricFamily(
        names.METRIC_FALLBACKS,
        "Requests that got the running mean or a guess, by why.",
        labels=[names.LABEL_REASON],
    )
    for reason, count in predictor.fallbacks.items():
        fallbacks.add_metric([reason], count)
    yield fallbacks
    optional = (
        (names.METRIC_TAU, "Rank correlation of prediction and truth.", predictor.tau),
        (names.METRIC_TAU_LOWER, "Lower 95 % bound of it.", predictor.tau_lower),
        (names.METRIC_TAU_UPPER, "Upper 95 % bound of it.", predictor.tau_upper),
        (
            names.METRIC_GAIN,
            "Mean wait under SSJF over mean wait under FCFS, estimated.",
            predictor.estimated_gain_ratio,
        ),
    )
    for name, help_text, value in optional:
        if value is not None:  # unknown is absent, not zero
            yield _gauge(name, help_text, value)


def _model_gauges(models: Mapping[str, ModelPredictionReport]) -> Iterator[Metric]:
    tau = GaugeMetricFamily(
        names.METRIC_MODEL_TAU,
        "Rank correlation of prediction and truth for one model or adapter.",
        labels=[names.LABEL_MODEL],
    )
    trusted = GaugeMetricFamily(
        names.METRIC_MODEL_TRUSTED,
        "1 while a model's predictions stand in the order, 0 while its running mean does.",
        labels=[names.LABEL_MODEL],
    )
    coverage = GaugeMetricFamily(
        names.METRIC_COVERAGE,
        "Share of answers not longer than the predicted quantile.",
        labels=[names.LABEL_MODEL, names.LABEL_QUANTILE],
    )
    for name, model in models.items():
        trusted.add_metric([name], float(model.trusted))
        if model.tau is not None:
            tau.add_metric([name], model.tau)
        for quantile, share in (("0.5", model.coverage_p50), ("0.9", model.coverage_p90)):
            if share is not None:
                coverage.add_metric([name, quantile], share)
    yield from (tau, trusted, coverage)


def _security_gauges(security: SecurityReport) -> Iterator[Metric]:
    yield CounterMetricFamily(
        names.METRIC_UNAUTHENTICATED,
        "Requests refused for want of a known API key.",
        value=security.unauthenticated,
    )
    refused = GaugeMetricFamily(
        names.METRIC_SECRET_REFUSED,
        "1 while a mounted Secret, or a part of it, is not in use or of no use; /status says why.",
        labels=[names.LABEL_SECRET],
    )
    if security.api_keys is not None:
        refused.add_metric(["api_keys"], float(bool(security.api_keys_error)))
    if security.tls:
        refused.add_metric(["tls"], float(bool(security.tls_error)))
    yield refused
    if security.tls_expires_at is not None:
        yield _gauge(
            names.METRIC_CERTIFICATE_EXPIRES,
            "When the certificate in use ends, seconds since the epoch.",
            security.tls_expires_at,
        )


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)
