"""Reads traces back from Jaeger's query API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class JaegerSpan:
    """One span as Jaeger stored it; `parent` is "" for a span whose parent is not in the trace."""

    span_id: str
    name: str
    parent: str
    service: str
    tags: dict[str, Any]


def read_trace(address: str, trace_id: str) -> dict[str, JaegerSpan]:
    """The spans of a trace by name, empty while Jaeger has none; `address` is HOST:PORT."""
    try:
        with urllib.request.urlopen(f"http://{address}/api/traces/{trace_id}", timeout=10) as reply:
            data: list[dict[str, Any]] = json.loads(reply.read())["data"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return {}  # not arrived yet: spans are exported in batches
        raise
    spans: dict[str, JaegerSpan] = {}
    for trace in data:
        services = {key: value["serviceName"] for key, value in trace["processes"].items()}
        for span in trace["spans"]:
            parents = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"]
            spans[span["operationName"]] = JaegerSpan(
                span_id=span["spanID"],
                name=span["operationName"],
                parent=parents[0] if parents else "",
                service=services[span["processID"]],
                tags={tag["key"]: tag["value"] for tag in span["tags"]},
            )
    return spans
