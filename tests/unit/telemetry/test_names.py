"""Telemetry names are public: unique, and ours are under our own prefix."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from llmservice_sidecar.runtime import telemetry_names

NAMES = {k: v for k, v in vars(telemetry_names).items() if k.isupper()}
CONVENTION_PREFIXES = ("gen_ai.", "error.", "http.")
SOURCES = Path(telemetry_names.__file__).parents[1]


def by_prefix(prefix: str) -> dict[str, str]:
    found = {k: v for k, v in NAMES.items() if k.startswith(prefix)}
    assert found
    return found


def test_no_name_is_given_twice() -> None:
    for prefix in ("SPAN_", "EVENT_", "ATTR_", "METRIC_", "RESOURCE_"):
        doubled = [v for v, n in Counter(by_prefix(prefix).values()).items() if n > 1]
        assert not doubled, prefix


def test_own_attributes_and_events_are_under_llmservice() -> None:
    for name in (*by_prefix("ATTR_").values(), *by_prefix("EVENT_").values()):
        assert name.startswith(("llmservice.", *CONVENTION_PREFIXES)), name


def test_own_metrics_are_under_llmservice() -> None:
    for name in by_prefix("METRIC_").values():
        assert name.startswith(("llmservice", "gen_ai_server_", "vllm:")), name


def test_every_name_is_used() -> None:
    texts = [p.read_text() for p in SOURCES.rglob("*.py") if p.name != "telemetry_names.py"]
    read_by_tests_only = {"SPAN_ENGINE_OWN", "ATTR_ENGINE_QUEUE_S"}  # vLLM makes these
    unused = {k for k in NAMES if not any(re.search(rf"\b{k}\b", text) for text in texts)}
    assert unused == read_by_tests_only


def test_names_that_the_design_promises_are_there() -> None:
    assert {
        "llmservice.predicted_output_tokens",
        "llmservice.predicted_p90",
        "llmservice.actual",
        "llmservice.policy",
        "llmservice.key",
        "llmservice.queue.position",
        "llmservice.queue.depth",
        "llmservice.queue.predicted_wait_s",
        "llmservice.queue.overtaking_bound_s",
        "llmservice.overtook",
        "llmservice.overtaken_by",
        "llmservice.outcome",
        "llmservice_requests",
        "llmservice_queue_wait_seconds",
        "llmservice_queue_wait_error_ratio",
        "llmservice_queued_requests",
        "llmservice_in_flight_slots",
        "llmservice_limit_slots",
        "llmservice_backlog_seconds",
        "llmservice_prediction_error_ratio",
        "llmservice_predictor_tau",
        "llmservice_estimated_gain_ratio",
        "llmservice_gamma_per_second",
    } <= set(NAMES.values())
