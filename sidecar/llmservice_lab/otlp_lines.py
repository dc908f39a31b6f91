"""Spans that a sidecar wrote to a file (`tracing.exporter: otlp-file`) as one file for Jaeger.

`python -m llmservice_lab.otlp_lines spans.jsonl traces.json`, then *Upload* in Jaeger's search.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def merged(lines: Iterable[str]) -> dict[str, Any]:
    """One OTLP/JSON object with the spans of all lines.

    Raises ValueError naming the line that is no OTLP/JSON.
    """
    resource_spans: list[Any] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            resource_spans += json.loads(line)["resourceSpans"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} is no OTLP/JSON export request: {error}") from error
    return {"resourceSpans": resource_spans}


def main() -> None:
    """Convert one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=Path, help="what the sidecar wrote")
    parser.add_argument("output", type=Path, help="the file to make")
    arguments = parser.parse_args()
    with arguments.lines.open(encoding="utf-8") as lines:
        arguments.output.write_text(json.dumps(merged(lines)))


if __name__ == "__main__":
    main()
