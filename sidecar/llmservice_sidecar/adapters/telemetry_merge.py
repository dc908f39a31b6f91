"""The engine's metrics and ours as one answer, in Prometheus' text format or OpenMetrics.

An endpoint picker reads `vllm:num_requests_waiting` of the pod: it must see our queue too, or it
would send work to a pod whose queue is long but outside the engine.
"""

from __future__ import annotations

from typing import Final

from llmservice_sidecar.runtime.telemetry_names import (
    METRIC_ENGINE_WAITING,
    METRIC_ENGINE_WAITING_RAW,
)

_EOF: Final = "# EOF"


def merge_engine_metrics(engine: str, ours: str, *, queued_requests: int) -> str:
    """Both texts, which must be of one format. Our queue is added to the engine's waiting gauge.

    The gauge's own value stays as `llmservice_engine_requests_waiting`. With several engine ranks
    our queue is added to the first, so that their sum is right.
    """
    lines: list[str] = []
    raw: list[str] = []
    for line in engine.splitlines():
        sample = _waiting_sample(line)
        if sample is None:
            lines.append(line)
            continue
        labels, value = sample
        added = queued_requests if not raw else 0
        raw.append(f"{METRIC_ENGINE_WAITING_RAW}{labels} {value}")
        lines.append(f"{METRIC_ENGINE_WAITING}{labels} {value + added}")
    if raw:
        lines += [
            f"# HELP {METRIC_ENGINE_WAITING_RAW} Requests waiting inside the engine alone.",
            f"# TYPE {METRIC_ENGINE_WAITING_RAW} gauge",
            *raw,
        ]
    merged = [line for line in (*lines, *ours.splitlines()) if line != _EOF]
    if ours.rstrip().endswith(_EOF):
        merged.append(_EOF)
    return "\n".join(merged) + "\n"


def _waiting_sample(line: str) -> tuple[str, float] | None:
    """The labels (with braces) and value of a sample of the waiting gauge; None for all else."""
    if not line.startswith(METRIC_ENGINE_WAITING):
        return None
    rest = line.removeprefix(METRIC_ENGINE_WAITING)
    if not rest.startswith(("{", " ")):
        return None  # a longer name, e.g. ..._by_reason
    labels, _, value = rest.rpartition(" ")
    return labels.strip(), float(value)
