"""Spans of the operator's work: off unless OTEL_EXPORTER_OTLP_ENDPOINT says where they go.

OpenTelemetry's own environment variables decide the rest (OTEL_TRACES_SAMPLER and its _ARG,
OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS, ...). Export is OTLP over HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Final

from llmservice_api import __version__, names
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_log = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_EXPORT_TIMEOUT_S: Final = 5.0
_SHUTDOWN_TIMEOUT_S: Final = 2.0
_FROM_ENVIRONMENT: Final = {"POD_NAME": "k8s.pod.name", "POD_NAMESPACE": "k8s.namespace.name"}


class TracingError(Exception):
    """The environment asks for an export that there is not; names variable, value, allowed."""


class Tracing:
    """The process's tracer and the export behind it, if there is one."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        source: trace.TracerProvider = provider or trace.NoOpTracerProvider()
        self.tracer: Final = source.get_tracer(names.FIELD_MANAGER, __version__)

    async def close(self) -> None:
        """Export what is left, for two seconds at most: a dead collector must hold nobody."""
        if self._provider is None:
            return
        # A daemon of its own: the default executor's threads are joined at interpreter exit.
        closer = threading.Thread(target=self._provider.shutdown, name="tracing-close", daemon=True)
        closer.start()
        await asyncio.to_thread(closer.join, _SHUTDOWN_TIMEOUT_S)
        if closer.is_alive():
            _log.warning("the trace collector did not take the last spans; they are lost")


def make_tracing(environ: Mapping[str, str]) -> Tracing:
    """The tracing that the environment asks for. Raises TracingError."""
    if not any(environ.get(name) for name in ENDPOINTS) or _disabled(environ):
        return Tracing(None)
    for name in PROTOCOLS:
        protocol = environ.get(name) or _PROTOCOL
        if protocol != _PROTOCOL:
            raise TracingError(
                f"{name} is {protocol!r}; the operator exports by {_PROTOCOL!r} only"
            )
    provider = TracerProvider(resource=_resource(environ), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


def _disabled(environ: Mapping[str, str]) -> bool:
    exporter = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    return environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none"


def _resource(environ: Mapping[str, str]) -> Resource:
    own = {"service.name": names.FIELD_MANAGER, "service.version": __version__}
    own |= {key: environ[name] for name, key in _FROM_ENVIRONMENT.items() if environ.get(name)}
    if pod := own.get("k8s.pod.name"):
        own["service.instance.id"] = pod
    # What the environment names goes before what we would say.
    return Resource.create({**own, **OTELResourceDetector().detect().attributes})
