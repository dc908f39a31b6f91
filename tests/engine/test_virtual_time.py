"""Simulated runs on vLLM's own scheduler, against the discrete-event engine where both apply."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import pytest
from llmservice_lab.cost_model import COST_MODELS
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_engine import EngineOptions
from llmservice_lab.sim_plan import make_sim_predictor
from llmservice_lab.sim_predictors import oracle
from llmservice_lab.simulator import Setup, measure_capacity, simulate
from llmservice_lab.vllm_engine_process import VllmSimulator
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.policies.elis import Elis
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Outcome

pytestmark = pytest.mark.timeout(300)  # the first test of the run starts vLLM

SLOTS = 8
COUNT = 250


@pytest.fixture(scope="module")
def vllm() -> Iterator[VllmSimulator]:
    with VllmSimulator() as simulator:
        yield simulator


def rows_of(count: int, *, seed: int, longest_prompt: int = 600) -> list[WorkloadRequest]:
    """Prompts up to a length that needs several chunks, answers of one to some hundred tokens."""
    rng = random.Random(seed)
    return [
        WorkloadRequest(
            arrival_s=0.0,
            prompt=None,
            prompt_tokens=rng.randint(1, longest_prompt),
            output_tokens=max(1, int(rng.lognormvariate(4.0, 1.0))),
        )
        for _ in range(count)
    ]


def setup_of(rows: Sequence[WorkloadRequest], policy: OrderingPolicy, *, load: float) -> Setup:
    costs = COST_MODELS["h100-7b"]
    rate = load * measure_capacity(rows, costs=costs, slots=SLOTS)
    rng = random.Random(1)
    return Setup(
        rows=rows,
        arrivals_s=list(accumulate(rng.expovariate(rate) for _ in rows)),
        policy=policy,
        predictor=oracle(rows),
        costs=costs,
        slots=SLOTS,
        guarded=False,
    )


def assert_same_course(first: Sequence[RequestRecord], second: Sequence[RequestRecord]) -> None:
    """Equal but for the last bits: one engine adds up steps, the other multiplies."""
    assert len(first) == len(second)
    assert [one.preemptions for one in first] == [other.preemptions for other in second]
    for one, other in zip(first, second, strict=True):
        for moment in ("admitted_s", "first_token_s", "finished_s", "engine_queue_s"):
            assert getattr(one, moment) == pytest.approx(getattr(other, moment), abs=1e-9), moment


@pytest.mark.parametrize("policy", [Fcfs(), Ssjf(), Ssjf(tail_weight=0.0)], ids=str)
def test_the_discrete_event_engine_takes_the_same_steps(
    vllm: VllmSimulator, policy: OrderingPolicy
) -> None:
    setup = setup_of(rows_of(COUNT, seed=1), policy, load=0.95)
    assert_same_course(vllm.simulate(setup), simulate(setup))


def test_long_prompts_are_computed_in_the_same_chunks(vllm: VllmSimulator) -> None:
    rows = rows_of(COUNT, seed=2, longest_prompt=6000)
    setup = replace(
        setup_of(rows, Fcfs(), load=1.1), options=EngineOptions(max_batched_tokens=2048)
    )
    assert_same_course(vllm.simulate(setup), simulate(setup))


def test_requests_beyond_the_slots_wait_inside_the_engine_alike(vllm: VllmSimulator) -> None:
    setup = replace(setup_of(rows_of(COUNT, seed=3), Fcfs(), load=1.0), limit_slots=SLOTS + 3)
    records = vllm.simulate(setup)
    assert_same_course(records, simulate(setup))
    assert max(record.engine_queue_s or 0.0 for record in records) > 0.1


def test_slices_resume_on_what_the_prefix_cache_holds(vllm: VllmSimulator) -> None:
    setup = setup_of(rows_of(COUNT, seed=4), Elis(), load=0.95)
    records = vllm.simulate(setup)
    assert_same_course(records, simulate(setup))
    assert {record.outcome for record in records} == {Outcome.COMPLETED}
    assert [r.output_tokens for r in records] == [r.output_tokens for r in setup.rows]
    without = vllm.simulate(replace(setup, options=EngineOptions(prefix_caching=False)))
    assert finished(without) > finished(records)


@pytest.mark.parametrize("name", ["default", "none"])
def test_a_predictor_that_learns_during_the_run_learns_the_same(
    vllm: VllmSimulator, name: str
) -> None:
    rows = [replace(r, prompt="why? " * r.prompt_tokens) for r in rows_of(COUNT, seed=9)]
    setup = replace(setup_of(rows, Ssjf(), load=0.95), guarded=True)
    records, again = (
        run(replace(setup, predictor=make_sim_predictor(name, rows, seed=1)))
        for run in (vllm.simulate, simulate)
    )
    assert_same_course(records, again)


def test_a_cached_prefix_is_not_computed_again(vllm: VllmSimulator) -> None:
    rows = [
        WorkloadRequest(
            arrival_s=0.0, prompt=None, prompt_tokens=1000, output_tokens=2, cached_tokens=900
        )
        for _ in range(20)
    ]
    setup = setup_of(rows, Fcfs(), load=0.1)
    cold, *warm = [(r.first_token_s or 0.0) - r.arrival_s for r in vllm.simulate(setup)]
    step_s = setup.costs.step_s
    assert cold == pytest.approx(step_s + 1000 * setup.costs.per_prefill_token_s)
    assert min(warm) == pytest.approx(step_s + (1000 - 896) * setup.costs.per_prefill_token_s)


@pytest.mark.parametrize(
    ("policy", "longest_prompt", "options"),
    [
        pytest.param(Fcfs(), 600, EngineOptions(kv_tokens=2400), id="found again in part"),
        pytest.param(
            Fcfs(), 600, EngineOptions(kv_tokens=2400, prefix_caching=False), id="computed again"
        ),
        pytest.param(Ssjf(tail_weight=0.0), 600, EngineOptions(kv_tokens=3000), id="out of order"),
        pytest.param(Elis(), 600, EngineOptions(kv_tokens=3000), id="with slices"),
        pytest.param(
            Fcfs(), 3000, EngineOptions(kv_tokens=8000, max_batched_tokens=1024), id="in chunks"
        ),
    ],
)
def test_a_kv_cache_that_fills_preempts_the_same_requests(
    vllm: VllmSimulator, policy: OrderingPolicy, longest_prompt: int, options: EngineOptions
) -> None:
    rows = rows_of(COUNT, seed=5, longest_prompt=longest_prompt)
    setup = replace(setup_of(rows, policy, load=0.95), options=options)
    records = vllm.simulate(setup)
    assert {record.outcome for record in records} == {Outcome.COMPLETED}
    assert sum(record.preemptions or 0 for record in records) > 0
    assert_same_course(records, simulate(setup))


def test_a_kv_cache_that_fills_at_once_still_serves_everything(vllm: VllmSimulator) -> None:
    setup = setup_of(rows_of(COUNT, seed=5), Fcfs(), load=0.95)
    setup = replace(setup, arrivals_s=[0.0] * COUNT, options=EngineOptions(kv_tokens=2400))
    assert_same_course(vllm.simulate(setup), simulate(setup))


def test_a_request_larger_than_the_kv_cache_is_refused(vllm: VllmSimulator) -> None:
    setup = setup_of(rows_of(20, seed=6), Fcfs(), load=0.5)
    with pytest.raises(ValueError, match="kv_tokens is 64; allowed: at least"):
        vllm.simulate(replace(setup, options=EngineOptions(kv_tokens=64)))
    with pytest.raises(ValueError, match="kv_tokens is 64; allowed: at least"):
        simulate(replace(setup, options=EngineOptions(kv_tokens=64)))


def test_priorities_order_who_waits_inside_the_engine(vllm: VllmSimulator) -> None:
    rows = [replace(r, priority=at % 3) for at, r in enumerate(rows_of(COUNT, seed=8))]
    setup = setup_of(rows, Fcfs(), load=1.1)
    for options in (EngineOptions(), EngineOptions(kv_tokens=3000)):
        wide = replace(setup, limit_slots=COUNT, options=options)
        assert_same_course(vllm.simulate(wide), simulate(wide))


def test_the_same_setup_gives_the_same_records(vllm: VllmSimulator) -> None:
    setup = replace(
        setup_of(rows_of(COUNT, seed=7), Ssjf(), load=0.95), options=EngineOptions(kv_tokens=4000)
    )
    with VllmSimulator() as another:
        assert vllm.simulate(setup) == another.simulate(setup)


def finished(records: Sequence[RequestRecord]) -> float:
    """Mean seconds from arrival to the end."""
    return sum((r.finished_s or 0.0) - r.arrival_s for r in records) / len(records)
