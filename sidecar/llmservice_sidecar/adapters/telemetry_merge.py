"""The engine's metrics and ours as one answer, in Prometheus' text format or OpenMetrics.

An endpoint picker reads `vllm:num_requests_waiting` of the pod: it must see our queue too, or it
would send work to a pod whose queue is long but outside the engine.
"""

from __future__ import annotations

import re
from typing import Final

from llmservice_sidecar.runtime.telemetry_names import (
    METRIC_ENGINE_WAITING,
    METRIC_ENGINE_WAITING_RAW,
)

_EOF: Final = "# EOF"
_TOTAL: Final = "_total"


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


def as_open_metrics(page: str) -> str:
    """A page of the text format as OpenMetrics. Timestamps are not expected.

    A family of counters has no `_total` in its name there, and when a series was made is no gauge
    of its own: that is left out.
    """
    types = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE))
    made = tuple(f"{name.removesuffix(_TOTAL)}_created" for name in types)
    created = frozenset(made) & types.keys()
    lines: list[str] = []
    for line in page.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            mark, kind, name, *rest = line.split(" ", 3)
            if name not in created:
                is_total = types.get(name) == "counter" and name.endswith(_TOTAL)
                family = name.removesuffix(_TOTAL) if is_total else name
                text = "unknown" if rest == ["untyped"] else "".join(rest)
                lines.append(f"{mark} {kind} {family} {text}")
        elif (
            line
            and not line.startswith("#")
            and re.split(r"[{ ]", line, maxsplit=1)[0] not in created
        ):
            lines.append(line)
    return "\n".join(lines)


def _waiting_sample(line: str) -> tuple[str, float] | None:
    """The labels (with braces) and value of a sample of the waiting gauge; None for all else."""
    if not line.startswith(METRIC_ENGINE_WAITING):
        return None
    rest = line.removeprefix(METRIC_ENGINE_WAITING)
    if not rest.startswith(("{", " ")):
        return None  # a longer name, e.g. ..._by_reason
    labels, _, value = rest.rpartition(" ")
    return labels.strip(), float(value)
