"""The simulator against queueing theory, and what any run must keep."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import pytest
from llmservice_lab.cost_model import COST_MODELS, CostModel
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_predictors import inverted, oracle
from llmservice_lab.simulator import Setup, measure_capacity, simulate
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Outcome

# One slot and a step of one second: a request's service is its output tokens, exactly.
ONE_SERVER = CostModel(step_s=1.0, per_decode_s=0.0, per_prefill_token_s=0.0)
COUNT = 10_000


def rows_of(lengths: Sequence[int]) -> list[WorkloadRequest]:
    return [
        WorkloadRequest(arrival_s=0.0, prompt=None, prompt_tokens=0, output_tokens=length)
        for length in lengths
    ]


def poisson(rate_per_s: float, count: int, *, seed: int) -> list[float]:
    rng = random.Random(seed)
    return list(accumulate(rng.expovariate(rate_per_s) for _ in range(count)))


def serve(
    lengths: Sequence[int],
    arrivals_s: Sequence[float],
    policy: OrderingPolicy,
    *,
    costs: CostModel = ONE_SERVER,
    slots: int = 1,
) -> list[RequestRecord]:
    rows = rows_of(lengths)
    return simulate(
        Setup(
            rows=rows,
            arrivals_s=arrivals_s,
            policy=policy,
            predictor=oracle(rows),
            costs=costs,
            slots=slots,
            guarded=False,
        )
    )


def mean_wait_s(records: Sequence[RequestRecord]) -> float:
    waits = [r.admitted_s - r.arrival_s for r in records if r.admitted_s is not None]
    assert len(waits) == len(records)
    return sum(waits) / len(waits)


def test_exponential_service_waits_as_m_m_1() -> None:
    rng = random.Random(1)
    lengths = [max(1, round(rng.expovariate(1 / 100))) for _ in range(COUNT)]
    rate = 0.7 / (sum(lengths) / COUNT)
    measured = mean_wait_s(serve(lengths, poisson(rate, COUNT, seed=2), Fcfs()))
    assert measured == pytest.approx(0.7 * 100 / (1 - 0.7), rel=0.1)


def test_any_service_waits_as_pollaczek_and_khinchine_say() -> None:
    rng = random.Random(3)
    lengths = [rng.choice((10, 20, 400)) for _ in range(COUNT)]
    mean, square = sum(lengths) / COUNT, sum(n * n for n in lengths) / COUNT
    rate = 0.6 / mean
    measured = mean_wait_s(serve(lengths, poisson(rate, COUNT, seed=4), Fcfs()))
    assert measured == pytest.approx(rate * square / (2 * (1 - 0.6)), rel=0.1)


def test_shortest_first_waits_as_cobham_says() -> None:
    """Classes by predicted size: W_k = lambda E[S^2] / (2 (1 - rho_<k) (1 - rho_<=k))."""
    rng = random.Random(5)
    sizes = (10, 60, 300)
    lengths = [rng.choice(sizes) for _ in range(COUNT)]
    rate = 0.8 / (sum(lengths) / COUNT)
    records = serve(lengths, poisson(rate, COUNT, seed=6), Ssjf(tail_weight=0.0))
    residual = rate * sum(n * n for n in lengths) / COUNT / 2
    below = 0.0
    for size in sizes:
        group = [record for record in records if record.output_tokens == size]
        upto = below + rate * size * len(group) / COUNT
        expected = residual / (1 - below) / (1 - upto)
        assert mean_wait_s(group) == pytest.approx(expected, rel=0.12)
        below = upto


def mixed(count: int, *, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [1 + int(rng.expovariate(1 / (50 if rng.random() < 0.8 else 600))) for _ in range(count)]


@pytest.mark.parametrize(
    ("load", "least", "most"),
    [
        pytest.param(0.9, 0.0, 0.8, id="near saturation the order matters"),
        pytest.param(0.4, 0.95, 1.001, id="at low load there is nothing to gain"),
    ],
)
def test_boosted_order_against_arrival_order(load: float, least: float, most: float) -> None:
    lengths, costs = mixed(2500, seed=7), COST_MODELS["tiny-cpu"]
    capacity = measure_capacity(rows_of(lengths), costs=costs, slots=8)
    arrivals_s = poisson(load * capacity, len(lengths), seed=8)

    def mean_e2e_s(policy: OrderingPolicy) -> float:
        records = serve(lengths, arrivals_s, policy, costs=costs, slots=8)
        return sum((r.finished_s or 0.0) - r.arrival_s for r in records) / len(records)

    assert least <= mean_e2e_s(Ssjf()) / mean_e2e_s(Fcfs()) <= most


def test_the_same_setup_gives_the_same_records() -> None:
    lengths, arrivals_s = mixed(500, seed=9), poisson(8.0, 500, seed=10)
    costs = COST_MODELS["tiny-cpu"]
    first = serve(lengths, arrivals_s, Ssjf(), costs=costs, slots=4)
    assert first == serve(lengths, arrivals_s, Ssjf(), costs=costs, slots=4)


def test_everything_is_served_once_and_never_beyond_the_slots() -> None:
    lengths, arrivals_s = mixed(800, seed=11), poisson(30.0, 800, seed=12)
    records = serve(lengths, arrivals_s, Ssjf(), costs=COST_MODELS["tiny-cpu"], slots=4)
    assert [r.output_tokens for r in records] == lengths
    assert [r.arrival_s for r in records] == arrivals_s
    changes: list[tuple[float, int]] = []
    for r in records:
        assert r.outcome is Outcome.COMPLETED
        assert r.admitted_s is not None
        assert r.first_token_s is not None
        assert r.finished_s is not None
        assert r.arrival_s <= r.admitted_s < r.first_token_s <= r.finished_s
        changes += [(r.admitted_s, 1), (r.finished_s, -1)]
    assert max(accumulate(change for _, change in sorted(changes))) == 4


def test_a_bounded_queue_rejects_what_does_not_fit() -> None:
    rows = rows_of([10] * 20)
    ended: list[int] = []
    setup = Setup(
        rows=rows,
        arrivals_s=[0.0] * 20,
        policy=Fcfs(),
        predictor=oracle(rows),
        costs=ONE_SERVER,
        slots=1,
        max_queued=5,
        on_ended=ended.append,
    )
    outcomes = [record.outcome for record in simulate(setup)]
    assert outcomes.count(Outcome.COMPLETED) == 6
    assert outcomes.count(Outcome.REJECTED) == 14
    assert ended[-1] == 20


def test_max_tokens_and_cached_tokens_shorten_the_work() -> None:
    row = WorkloadRequest(
        arrival_s=0.0,
        prompt=None,
        prompt_tokens=100,
        output_tokens=50,
        max_tokens=5,
        cached_tokens=97,  # six whole blocks of 16
    )
    costs = CostModel(step_s=1.0, per_decode_s=0.0, per_prefill_token_s=1.0)
    (record,) = simulate(
        Setup(
            rows=[row],
            arrivals_s=[0.0],
            policy=Fcfs(),
            predictor=oracle([row]),
            costs=costs,
            slots=1,
        )
    )
    assert record.output_tokens == 5
    assert record.finished_s == pytest.approx(5.0 + 4.0)


def test_the_guard_stops_a_predictor_that_misleads() -> None:
    lengths, costs = mixed(2000, seed=13), COST_MODELS["tiny-cpu"]
    rows = rows_of(lengths)
    capacity = measure_capacity(rows, costs=costs, slots=8)
    arrivals_s = poisson(0.9 * capacity, len(rows), seed=14)

    def mean_wait(policy: OrderingPolicy, *, guarded: bool) -> float:
        setup = Setup(
            rows=rows,
            arrivals_s=arrivals_s,
            policy=policy,
            predictor=inverted(rows),
            costs=costs,
            slots=8,
            guarded=guarded,
        )
        return mean_wait_s(simulate(setup)[600:])

    arrival_order = mean_wait(Fcfs(), guarded=False)
    assert mean_wait(Ssjf(), guarded=True) == pytest.approx(arrival_order, rel=0.05)
    assert mean_wait(Ssjf(), guarded=False) > 1.2 * arrival_order


def test_capacity_is_measured_in_the_middle_of_a_full_run() -> None:
    # Four slots, ten steps of 1 s each: 0.4 requests a second.
    capacity = measure_capacity(rows_of([10] * 400), costs=ONE_SERVER, slots=4)
    assert capacity == pytest.approx(0.4, rel=0.02)


def test_deadlines_do_not_change_the_capacity() -> None:
    rows = [replace(row, deadline_s=11.0) for row in rows_of([10] * 400)]
    capacity = measure_capacity(rows, costs=ONE_SERVER, slots=4)
    assert capacity == pytest.approx(0.4, rel=0.02)


def test_capacity_needs_ten_requests() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        measure_capacity(rows_of([10] * 9), costs=ONE_SERVER, slots=4)
