"""The points of `llmservice_lab.agreement`, kept like results: vLLM is slow to ask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from llmservice_lab.agreement import WORKLOAD, Point, points
from llmservice_lab.benchmarks.store import Store
from llmservice_lab.sim_plan import simulator_of
from llmservice_lab.workload import load_workload


def agreed(store: Store, *, requests: int) -> Sequence[Point]:
    """All points. Raises EngineEnvironmentError when vLLM cannot be installed or fails."""
    key = ["agreement", requests, WORKLOAD.read_bytes().hex()]
    kept = store.get_text(key)
    if kept is None:
        with simulator_of("vllm") as vllm:
            found = points(load_workload(WORKLOAD), vllm, requests=requests)
            kept = json.dumps([asdict(point) for point in found])
        store.put_text(key, kept)
    return [Point(**fields) for fields in json.loads(kept)]
