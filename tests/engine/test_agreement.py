"""The discrete-event engine against vLLM's own scheduler: policy ratios on six points."""

from __future__ import annotations

from pathlib import Path

import pytest
from llmservice_lab.agreement import FIGURES, points
from llmservice_lab.vllm_engine_process import VllmSimulator
from llmservice_lab.workload import load_workload

pytestmark = pytest.mark.timeout(600)  # twelve simulated runs on vLLM

WORKLOAD = Path(__file__).parents[2] / "examples" / "workloads" / "demo-test.jsonl"


def test_both_engines_say_the_same_of_a_policy_at_every_point() -> None:
    with VllmSimulator() as vllm:
        compared = list(points(load_workload(WORKLOAD), vllm.simulate, requests=250))
    assert [point.slots for point in compared] == [8, 8, 8, 32, 32, 32]
    for point in compared:
        # Ten per cent would do for policies; these two take the same steps.
        assert point.deviation < 1e-6, point
        assert set(point.des) == set(FIGURES)
    assert compared[1].vllm["mean"] < 0.97  # the order matters there, so it is a comparison
