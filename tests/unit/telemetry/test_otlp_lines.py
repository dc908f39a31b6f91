"""The file exporter's lines become one file that Jaeger's Upload opens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from llmservice_api.sidecar_config import TracingConfig
from llmservice_lab import otlp_lines
from llmservice_sidecar.adapters.telemetry_tracing import make_tracing


async def test_spans_of_all_lines_come_into_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, output = tmp_path / "spans.jsonl", tmp_path / "traces.json"
    config = TracingConfig(exporter="otlp-file", exporter_endpoint=str(lines))
    for name in ("first", "second"):
        tracing = make_tracing(config, service="chat", namespace="team", environ={})
        tracing.tracer.start_span(name).end()
        await tracing.close()
    monkeypatch.setattr(sys, "argv", ["otlp_lines", str(lines), str(output)])
    otlp_lines.main()
    resources = json.loads(output.read_text())["resourceSpans"]
    names = [span["name"] for r in resources for s in r["scopeSpans"] for span in s["spans"]]
    assert names == ["first", "second"]


def test_a_line_that_is_no_otlp_is_named() -> None:
    with pytest.raises(ValueError, match="line 3 is no OTLP/JSON"):
        otlp_lines.merged(['{"resourceSpans": []}', "", "{}"])
