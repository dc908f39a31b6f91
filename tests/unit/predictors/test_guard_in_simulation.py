"""The guard at work: a worthless predictor costs no more than a few per cent of the mean."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean

import pytest
from llmservice_lab.cost_model import load_cost_model
from llmservice_lab.sim_predictors import Constant, SimPredictor, inverted, oracle, shuffled
from llmservice_lab.simulator import Setup, measure_capacity, simulate
from llmservice_lab.workload import WorkloadRequest, load_workload
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policy import OrderingPolicy

WORKLOADS = Path(__file__).parents[3] / "examples" / "workloads"
COSTS = load_cost_model("tiny-cpu")
SLOTS, LOAD = 8, 0.9


@pytest.fixture(scope="module")
def rows() -> list[WorkloadRequest]:
    once = [*load_workload(WORKLOADS / "demo-train.jsonl")]
    return once * 3  # 4,308 requests: the guard's 200 must be a small part


@pytest.fixture(scope="module")
def arrivals(rows: list[WorkloadRequest]) -> Sequence[float]:
    rate = LOAD * measure_capacity(rows[:1436], costs=COSTS, slots=SLOTS)
    rng = random.Random(7)
    return list(accumulate(rng.expovariate(rate) for _ in rows))


def mean_s(
    rows: list[WorkloadRequest],
    arrivals: Sequence[float],
    policy: OrderingPolicy,
    predictor: SimPredictor,
) -> float:
    setup = Setup(
        rows=rows, arrivals_s=arrivals, policy=policy, predictor=predictor, costs=COSTS, slots=SLOTS
    )
    records = simulate(setup)
    return fmean(r.finished_s - r.arrival_s for r in records if r.finished_s is not None)


@pytest.fixture(scope="module")
def arrival_order_s(rows: list[WorkloadRequest], arrivals: Sequence[float]) -> float:
    return mean_s(rows, arrivals, Fcfs(), Constant())


def chance(rows: list[WorkloadRequest]) -> SimPredictor:
    return shuffled(rows, rng=random.Random(3))


def constant(rows: list[WorkloadRequest]) -> SimPredictor:
    return Constant()


@pytest.mark.parametrize("make", [chance, inverted, constant])
def test_a_worthless_predictor_stays_within_five_per_cent_of_arrival_order(
    rows: list[WorkloadRequest],
    arrivals: Sequence[float],
    arrival_order_s: float,
    make: Callable[[list[WorkloadRequest]], SimPredictor],
) -> None:
    guarded = mean_s(rows, arrivals, make_policy("SSJF"), make(rows))
    assert guarded <= 1.05 * arrival_order_s


def test_a_good_predictor_is_not_held_back(
    rows: list[WorkloadRequest], arrivals: Sequence[float], arrival_order_s: float
) -> None:
    assert mean_s(rows, arrivals, make_policy("SSJF"), oracle(rows)) <= 0.85 * arrival_order_s
