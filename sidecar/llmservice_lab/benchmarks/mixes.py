"""The shipped mixed workloads by name; sources: examples/workloads/README.md."""

from __future__ import annotations

from typing import Final

from llmservice_lab.benchmarks.work import FOLDER, Mix

MIXES: Final = (
    Mix(
        name="demo",
        path=FOLDER / "demo-test.jsonl",
        about="exam questions, technical questions and volunteers' chat",
    ),
)
