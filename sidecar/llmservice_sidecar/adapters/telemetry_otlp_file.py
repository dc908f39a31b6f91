"""Spans to a file, one OTLP/JSON export request a line: for machines without a collector.

OTLP's JSON is protobuf's JSON with two differences: ids are hex, enums are numbers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_ID_FIELDS: Final = ("traceId", "spanId", "parentSpanId")


class OtlpFileExporter(SpanExporter):
    """Appends to `path`; a line is written whole, so a reader may follow the file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write one line. Called from the exporting thread only."""
        self._file.write(otlp_json_line(spans))
        self._file.flush()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file; later spans are refused by the provider."""
        self._file.close()


def otlp_json_line(spans: Sequence[ReadableSpan]) -> str:
    """The spans as one OTLP/JSON `ExportTraceServiceRequest` and a newline."""
    request: dict[str, Any] = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for span in _spans_of(request):
        for owner in (span, *span.get("links", ())):
            for name in _ID_FIELDS:
                if name in owner:
                    owner[name] = base64.b64decode(owner[name]).hex()
    return json.dumps(request, separators=(",", ":")) + "\n"


def _spans_of(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in request.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            yield from scope.get("spans", ())
