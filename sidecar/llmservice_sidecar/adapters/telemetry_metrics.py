"""Prometheus metrics: request counts and times as they happen, the gate's state when scraped.

Labels are closed sets or capped: no client can make a new series at will.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmservice_api import __version__
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from llmservice_sidecar.adapters.telemetry_gauges import GaugeCollector, Gauges
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.ports import RequestEnd
from llmservice_sidecar.runtime.tail_rule import is_fault

OTHER: Final = "other"  # the label value of everything beyond a cap
_MAX_SOURCES: Final = 16

_WAIT_BUCKETS: Final = (
    0.001,
    0.005,
    0.02,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2,
    5,
    10,
    20,
    60,
    120,
    300,
    600,
)
_PREDICT_BUCKETS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
_RATIO_BUCKETS: Final = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)
_SLOWDOWN_BUCKETS: Final = (1.05, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
# The convention's boundaries, carried on to what a queue can add and a small model can reach.
_DURATION_BUCKETS: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(163.84, 327.68, 655.36),
)
_FIRST_TOKEN_BUCKETS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 320, 640),
)
_PER_TOKEN_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5),
)


class PrometheusMetrics:
    """Implements `RequestMetrics`. `models` are the names that may be label values."""

    def __init__(self, *, models: Sequence[str]) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        self._models = frozenset(models)
        self._sources: set[str] = set()
        self._requests = Counter(
            names.METRIC_REQUESTS,
            "Requests by how they ended.",
            (names.LABEL_OUTCOME, names.LABEL_REASON),
            registry=self._registry,
        )
        self._queue_wait = self._histogram(
            names.METRIC_QUEUE_WAIT, "Seconds from arrival to admission or eviction.", _WAIT_BUCKETS
        )
        self._queue_wait_error = self._histogram(
            names.METRIC_QUEUE_WAIT_ERROR,
            "Predicted over real seconds in the queue of a sample of requests; 1 is exact.",
            _RATIO_BUCKETS,
        )
        # "Slowdown" or "stretch" of the scheduling literature: M. Bender, S. Chakrabarti and
        # S. Muthukrishnan, Flow and Stretch Metrics for Scheduling Continuous Job Streams, 1998.
        self._slowdown = self._histogram(
            names.METRIC_SLOWDOWN,
            "Seconds from the door to the end over seconds in the engine, of completed requests.",
            _SLOWDOWN_BUCKETS,
        )
        self._predictions = Counter(
            names.METRIC_PREDICTIONS,
            "Predictions by who made them.",
            (names.LABEL_SOURCE,),
            registry=self._registry,
        )
        self._prediction_duration = self._histogram(
            names.METRIC_PREDICTION_DURATION,
            "Seconds until a prediction was there.",
            _PREDICT_BUCKETS,
        )
        self._prediction_error = self._histogram(
            names.METRIC_PREDICTION_ERROR,
            "Predicted over actual output tokens of completed requests; 1 is exact.",
            _RATIO_BUCKETS,
        )
        self._gen_ai = _GenAiHistograms(self._registry)
        Info(names.METRIC_BUILD, "The running version.", registry=self._registry).info(
            {"version": __version__}
        )
        ProcessCollector(namespace=names.METRIC_PREFIX_PROCESS, registry=self._registry)

    def watch(self, gauges: Gauges) -> None:
        """Read these on every scrape from now on. To be called once."""
        self._registry.register(GaugeCollector(gauges, models=self._models))

    def predicted(self, *, source: str, duration_s: float) -> None:
        """Count a prediction."""
        self._predictions.labels(self._capped(source)).inc()
        self._prediction_duration.observe(duration_s)

    def left_queue(
        self,
        *,
        wait_s: float,
        predicted_wait_s: float | None = None,
        trace_id: str | None = None,
    ) -> None:
        """Record a wait, and how well it was foreseen."""
        exemplar = _exemplar(trace_id)
        self._queue_wait.observe(wait_s, exemplar)
        if predicted_wait_s is not None and wait_s > 0:
            self._queue_wait_error.observe(predicted_wait_s / wait_s, exemplar)

    def finished(self, end: RequestEnd) -> None:
        """Count an end, and time what was served."""
        exemplar = _exemplar(end.trace_id)
        self._requests.labels(end.outcome.value, end.reason.value).inc(1, exemplar)
        model = end.model if end.model in self._models else OTHER
        if is_fault(end.outcome, end.reason):
            self._gen_ai.failed(end, model=model, exemplar=exemplar)
        if end.outcome is not Outcome.COMPLETED:
            return
        self._gen_ai.completed(end, model=model, exemplar=exemplar)
        if end.service_s:
            self._slowdown.observe(end.duration_s / end.service_s, exemplar)
        if end.predicted_tokens is not None and end.output_tokens:
            self._prediction_error.observe(end.predicted_tokens / end.output_tokens, exemplar)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type; OpenMetrics (with exemplars) if the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _histogram(self, name: str, help_text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, help_text, buckets=buckets, registry=self._registry)

    def _capped(self, source: str) -> str:
        if source in self._sources:
            return source
        if len(self._sources) >= _MAX_SOURCES:
            return OTHER
        self._sources.add(source)
        return source


class _GenAiHistograms:
    """The convention's server metrics, measured at the door: waiting is part of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = (names.LABEL_OPERATION, names.LABEL_PROVIDER, names.LABEL_MODEL)
        self._duration = Histogram(
            names.METRIC_GEN_AI_DURATION,
            "Seconds from the door to the last byte, or to the fault that error_type names.",
            (*labels, names.LABEL_ERROR),
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        self._first_token = Histogram(
            names.METRIC_GEN_AI_FIRST_TOKEN,
            "Seconds from the door to the first token (completed requests).",
            labels,
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._per_token = Histogram(
            names.METRIC_GEN_AI_PER_TOKEN,
            "Seconds per output token after the first (completed requests).",
            labels,
            buckets=_PER_TOKEN_BUCKETS,
            registry=registry,
        )

    def failed(self, end: RequestEnd, *, model: str, exemplar: dict[str, str] | None) -> None:
        """Time a request that was owed an answer."""
        labels = (end.operation, names.PROVIDER, model, end.reason.value)
        self._duration.labels(*labels).observe(end.duration_s, exemplar)

    def completed(self, end: RequestEnd, *, model: str, exemplar: dict[str, str] | None) -> None:
        """Time a completed request."""
        labels = (end.operation, names.PROVIDER, model)
        self._duration.labels(*labels, "").observe(end.duration_s, exemplar)
        if end.first_token_s is None:
            return
        self._first_token.labels(*labels).observe(end.first_token_s, exemplar)
        if end.output_tokens is not None and end.output_tokens > 1:
            decode_s = max(0.0, end.duration_s - end.first_token_s)
            self._per_token.labels(*labels).observe(decode_s / (end.output_tokens - 1), exemplar)


def _exemplar(trace_id: str | None) -> dict[str, str] | None:
    return None if trace_id is None else {"trace_id": trace_id}
