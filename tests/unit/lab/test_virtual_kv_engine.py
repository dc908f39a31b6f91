"""The discrete-event engine with a bounded KV cache; against vLLM in tests/engine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from llmservice_lab.cost_model import CostModel
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_engine import EngineOptions, Starting
from llmservice_lab.sim_predictors import oracle
from llmservice_lab.simulator import Setup, simulate
from llmservice_lab.virtual_kv_engine import VirtualKvEngine
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.policies.elis import Elis
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Outcome

COSTS = CostModel(step_s=1.0, per_decode_s=0.0, per_prefill_token_s=0.1)


def engine(kv_tokens: int, *, slots: int = 4, caching: bool = True) -> VirtualKvEngine:
    options = EngineOptions(kv_tokens=kv_tokens, prefix_caching=caching)
    return VirtualKvEngine(COSTS, slots=slots, options=options)


def starting(index: int, *, prompt: int, output: int, priority: int = 0) -> Starting:
    return Starting(index=index, prompt_tokens=prompt, output_tokens=output, priority=priority)


def finished_at(engine: VirtualKvEngine) -> dict[int, float]:
    ends: dict[int, float] = {}
    while engine.next_event_s() is not None:
        progress = engine.advance()
        ends |= dict.fromkeys(progress.finished, progress.now)
    return ends


def test_the_later_request_gives_way_and_computes_again() -> None:
    tight = engine(48, caching=False)
    tight.start(starting(0, prompt=16, output=18), now=0.0)
    tight.start(starting(1, prompt=16, output=18), now=0.0)
    # Both prefill in 1 + 3.2. Their second tokens need a block each and there is one: the second
    # gives way, and is back with 17 tokens to compute when the first has ended 17 steps later.
    ends = finished_at(tight)
    assert ends[0] == pytest.approx(4.2 + 17)
    assert ends[1] == pytest.approx(4.2 + 17 + 1 + 1.7 + 16)


def test_what_the_cache_still_holds_is_not_computed_again() -> None:
    kept = engine(64)
    kept.start(starting(0, prompt=16, output=18), now=0.0)
    kept.start(starting(1, prompt=31, output=18), now=0.0)
    lost = engine(64, caching=False)
    lost.start(starting(0, prompt=16, output=18), now=0.0)
    lost.start(starting(1, prompt=31, output=18), now=0.0)
    assert finished_at(kept)[1] < finished_at(lost)[1]


def test_the_lower_priority_gives_way_although_it_came_first() -> None:
    tight = engine(48, caching=False)
    tight.start(starting(0, prompt=16, output=18), now=0.0)
    tight.start(starting(1, prompt=16, output=18, priority=1), now=0.0)
    ends = finished_at(tight)
    assert ends[1] < ends[0]


def test_a_request_that_never_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="kv_tokens is 48; allowed: at least 49, what request 7"):
        engine(48).start(starting(7, prompt=40, output=9), now=0.0)


def test_it_has_no_scheduler_classes() -> None:
    with pytest.raises(ValueError, match="use the vllm engine"):
        VirtualKvEngine(COSTS, slots=1, options=EngineOptions(kv_tokens=48, scheduler_class="x.Y"))


def mixed(count: int, *, seed: int, cached: int = 0) -> list[WorkloadRequest]:
    rng = random.Random(seed)
    return [
        WorkloadRequest(
            arrival_s=0.0,
            prompt=None,
            prompt_tokens=cached + rng.randint(1, 300),
            output_tokens=1 + int(rng.expovariate(1 / 60)),
            cached_tokens=cached,
        )
        for _ in range(count)
    ]


def serve(
    rows: Sequence[WorkloadRequest], policy: OrderingPolicy, kv_tokens: int | None, *, seed: int
) -> list[RequestRecord]:
    rng = random.Random(seed)
    setup = Setup(
        rows=rows,
        arrivals_s=sorted(rng.uniform(0, 4000) for _ in rows),
        policy=policy,
        predictor=oracle(rows),
        costs=COSTS,
        slots=8,
        guarded=False,
    )
    return simulate(replace(setup, options=EngineOptions(kv_tokens=kv_tokens)))


@pytest.mark.parametrize("policy", [Fcfs(), Elis()], ids=["whole", "sliced"])
@pytest.mark.parametrize("seed", range(3))
def test_with_room_for_everything_it_is_the_plain_engine(policy: OrderingPolicy, seed: int) -> None:
    rows = mixed(200, seed=seed, cached=32 * seed)
    ample, plain = (serve(rows, policy, kv, seed=seed) for kv in (1_000_000, None))
    assert [r.finished_s for r in ample] == pytest.approx([r.finished_s for r in plain])
    assert [r.first_token_s for r in ample] == pytest.approx([r.first_token_s for r in plain])


@pytest.mark.parametrize("policy", [Fcfs(), Elis()], ids=["whole", "sliced"])
def test_under_pressure_everything_is_still_served(policy: OrderingPolicy) -> None:
    records = serve(mixed(300, seed=9), policy, 1200, seed=9)
    assert {record.outcome for record in records} == {Outcome.COMPLETED}
    assert sum(record.preemptions or 0 for record in records) > 10
