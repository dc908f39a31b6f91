"""OpenTelemetry tracing: where spans go, and how their export ends in bounded time.

Spans are made elsewhere with the tracer from here; this file never sees a request.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from llmservice_api import __version__
from llmservice_api.sidecar_config import ConfigError, TracingConfig
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcSpanExporter,
)
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpSpanExporter,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llmservice_sidecar.adapters.telemetry_otlp_file import OtlpFileExporter
from llmservice_sidecar.adapters.telemetry_sampling import LiveSampler
from llmservice_sidecar.adapters.telemetry_spans import RequestTracer
from llmservice_sidecar.adapters.telemetry_tail import HeldSpans
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.ports import Tracer

_log = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S: Final = 1.5
EXPORT_TIMEOUT_S: Final = 5.0
MAX_PENDING_SPANS: Final = 4096
_PROPAGATOR: Final = TraceContextTextMapPropagator()

# What Kubernetes injects by the downward API, and the resource attribute it becomes.
_RESOURCE_FROM_ENV: Final[Mapping[str, str]] = {
    "POD_NAME": names.RESOURCE_POD,
    "POD_UID": names.RESOURCE_POD_UID,
    "POD_NAMESPACE": names.RESOURCE_NAMESPACE,
    "NODE_NAME": names.RESOURCE_NODE,
}

_EXPORTERS: Final[Mapping[str, Callable[[str], SpanExporter]]] = {
    "otlp": lambda endpoint: GrpcSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S),
    "otlp-http": lambda endpoint: HttpSpanExporter(
        endpoint=traces_url(endpoint), timeout=EXPORT_TIMEOUT_S
    ),
    "otlp-file": lambda endpoint: OtlpFileExporter(Path(endpoint.removeprefix("file://"))),
}
NO_EXPORTER: Final = "none"


class Tracing:
    """The process's tracer and the export behind it. `close` ends it within bounded time."""

    def __init__(self, tracer: Tracer, *, sampler: LiveSampler, export: SpanExport | None) -> None:
        self._export = export
        self.sampler: Final = sampler
        self.tracer: Final = tracer

    @property
    def dropped_spans(self) -> int:
        """Sampled spans that no collector will ever see, since the start."""
        return 0 if self._export is None else self._export.dropped

    async def flush(self) -> None:
        """Export what has ended so far; blocks as long as the collector does."""
        if self._export is not None:
            await asyncio.to_thread(self._export.force_flush)

    async def close(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """Export what is left, at most `timeout_s`; a dead collector must not hold the pod."""
        if self._export is None:
            return
        # A daemon of its own: the default executor's threads are joined at interpreter exit.
        closer = threading.Thread(target=self._export.shutdown, name="tracing-close", daemon=True)
        closer.start()
        await asyncio.to_thread(closer.join, timeout_s)
        if closer.is_alive():
            lost = self._export.abandon()
            _log.warning(
                "the trace collector did not take the last spans within %.1f s; %d are lost: "
                "check tracing.exporterEndpoint",
                timeout_s,
                lost,
            )


class _OwnResource(Resource):
    """One for all spans. The exporter groups by it and hashes it for each; that makes JSON of it.

    A twentieth of what a span costs in all.
    """

    def __init__(self, attributes: Mapping[str, str], schema_url: str) -> None:
        super().__init__(attributes, schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class SpanExport:
    """Implements `telemetry_spans.SpanSink`: batches to an exporter, and knows what was lost.

    The batching of the SDK drops silently; so what is pending is bounded and counted here. How
    often it exports is left to the SDK (5 s, or OTEL_BSP_SCHEDULE_DELAY in ms): each export takes
    2 ms of CPU however little is in it.
    """

    def __init__(self, exporter: SpanExporter, *, max_pending: int = MAX_PENDING_SPANS) -> None:
        self._exporter = _CountingExporter(exporter, done=self._exported)
        self._batches = BatchSpanProcessor(
            self._exporter,
            max_queue_size=max_pending,
            max_export_batch_size=min(512, max_pending),
        )
        self._max_pending = max_pending
        self._lock = threading.Lock()
        self._pending = 0
        self._lost = 0
        self._held = HeldSpans(keep=self._take, lose=self._lose)

    @property
    def dropped(self) -> int:
        """Spans lost so far: too many pending, or refused by the collector."""
        return self._lost

    def started(self, context: SpanContext, kind: SpanKind) -> None:
        """Expect the end of one that the head did not sample."""
        if not context.trace_flags.sampled:
            self._held.started(context, kind)

    def ended(self, span: ReadableSpan) -> None:
        """Take a sampled span, unless too many are pending already; hold another."""
        if span.context is None or not span.context.trace_flags.sampled:
            self._held.ended(span)
        else:
            self._take(span)

    def _take(self, span: ReadableSpan) -> None:
        with self._lock:
            if self._pending >= self._max_pending:
                self._lost += 1
                return
            self._pending += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Export what is pending. Blocks up to 30 s when the collector is gone."""
        self._batches.shutdown()

    def abandon(self) -> int:
        """Break off an export that will not end; how many spans were pending."""
        pending = self._pending
        self._exporter.shutdown()
        return pending

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is pending now."""
        return self._batches.force_flush(timeout_millis)

    def _lose(self, count: int) -> None:
        with self._lock:
            self._lost += count

    def _exported(self, count: int, result: SpanExportResult) -> None:
        with self._lock:
            self._pending -= count
            if result is not SpanExportResult.SUCCESS:
                self._lost += count


class _CountingExporter(SpanExporter):
    def __init__(
        self, exporter: SpanExporter, *, done: Callable[[int, SpanExportResult], None]
    ) -> None:
        self._exporter = exporter
        self._done = done

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._done(len(spans), result)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def make_tracing(
    config: TracingConfig, *, service: str, namespace: str, environ: Mapping[str, str]
) -> Tracing:
    """The tracing that `config` asks for. Raises ConfigError naming the key and what is allowed.

    Without an endpoint no span is made, and a client's trace context passes through to the engine.
    """
    sampler = LiveSampler(config)
    exporter = _exporter(config)
    if exporter is None:
        return Tracing(trace.NoOpTracer(), sampler=sampler, export=None)
    export = SpanExport(exporter)
    tracer = RequestTracer(
        export,
        sampler=sampler,
        resource=_OwnResource(_resource(config, service, namespace, environ), names.SCHEMA_URL),
        scope=InstrumentationScope(names.TRACER_NAME, __version__, names.SCHEMA_URL),
    )
    return Tracing(tracer, sampler=sampler, export=export)


def context_of(carrier: Mapping[str, str]) -> Context:
    """The caller's trace context from W3C headers (names in lower case); empty if there is none.

    Baggage is left where it is: it may hold anything, and nothing here needs it.
    """
    return _PROPAGATOR.extract(carrier, context=Context())


def traces_url(endpoint: str) -> str:
    """The OTLP/HTTP address: `/v1/traces` is added to an endpoint without a path."""
    return endpoint if urlsplit(endpoint).path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"


def _exporter(config: TracingConfig) -> SpanExporter | None:
    if config.exporter not in (*_EXPORTERS, NO_EXPORTER):
        allowed = ", ".join((*_EXPORTERS, NO_EXPORTER))
        raise ConfigError(f"tracing.exporter: {config.exporter!r} is not one of {allowed}")
    if config.exporter == NO_EXPORTER or config.exporter_endpoint is None:
        return None
    try:
        return _EXPORTERS[config.exporter](config.exporter_endpoint)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"tracing.exporter_endpoint: {config.exporter_endpoint!r} cannot be used by exporter "
            f"{config.exporter!r}: {error}"
        ) from error


def _resource(
    config: TracingConfig, service: str, namespace: str, environ: Mapping[str, str]
) -> dict[str, str]:
    attributes = {
        names.RESOURCE_SERVICE_NAME: service,
        names.RESOURCE_SERVICE_NAMESPACE: namespace,
        names.RESOURCE_SERVICE_VERSION: __version__,
        names.RESOURCE_CONTAINER: "sidecar",
    }
    attributes |= {key: environ[env] for env, key in _RESOURCE_FROM_ENV.items() if environ.get(env)}
    if names.RESOURCE_POD in attributes:
        attributes[names.RESOURCE_SERVICE_INSTANCE] = attributes[names.RESOURCE_POD]
    return attributes | config.resource_attributes
