"""Systems by name: each runs, does all the work, and is what it says."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate

import pytest
from fakes.queue_values import request
from llmservice_lab.cost_model import COST_MODELS
from llmservice_lab.heads import Remaining, Spread
from llmservice_lab.results import RequestRecord
from llmservice_lab.retrieval import Retrieval
from llmservice_lab.sim_online import online
from llmservice_lab.sim_plan import make_sim_predictor
from llmservice_lab.sim_predictors import oracle
from llmservice_lab.simulator import Setup, simulate
from llmservice_lab.systems import SYSTEMS, SystemOptions, assemble, system_of
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.policies import POLICIES
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.core.rules import Running

OPTIONS = SystemOptions()
COUNT = 200
SLOTS = 4


def workload() -> list[WorkloadRequest]:
    rng = random.Random(5)
    return [
        WorkloadRequest(
            arrival_s=0.0,
            prompt=None,
            prompt_tokens=rng.randrange(5, 400),
            output_tokens=min(1 + int(rng.lognormvariate(4.0, 1.0)), 1500),
        )
        for _ in range(COUNT)
    ]


def served(name: str, rows: Sequence[WorkloadRequest]) -> list[RequestRecord]:
    rng = random.Random(7)
    system = system_of(name)
    inner = make_sim_predictor(system.predictor or "noisy:tau=0.6", rows, seed=1)
    parts = assemble(name, inner, options=OPTIONS)
    return simulate(
        Setup(
            rows=rows,
            arrivals_s=list(accumulate(rng.expovariate(4.6) for _ in rows)),
            policy=parts.policy,
            rules=parts.rules,
            predictor=parts.predictor,
            costs=COST_MODELS["h100-7b"],
            slots=SLOTS,
            guarded=False,
        )
    )


def mean_s(records: Sequence[RequestRecord]) -> float:
    times = [each.finished_s - each.arrival_s for each in records if each.finished_s is not None]
    assert len(times) == len(records)
    return math.fsum(times) / len(times)


def test_systems_are_the_registered_policies() -> None:
    assert SYSTEMS
    assert sorted(SYSTEMS) == sorted(POLICIES)


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_system_completes_all_the_work(name: str) -> None:
    rows = workload()
    records = served(name, rows)
    assert [each.outcome for each in records] == [Outcome.COMPLETED] * COUNT
    assert [each.output_tokens for each in records] == [row.output_tokens for row in rows]
    assert mean_s(records) == mean_s(served(name, rows)), "the same seed, other numbers"


def test_sane_orders_lie_between_the_oracle_and_the_longest_first() -> None:
    rows = workload()
    mean = {
        name: mean_s(served(name, rows)) for name in ("OracleSJF", "SSJF", "LTR", "LongestFirst")
    }
    assert mean["OracleSJF"] < min(mean["SSJF"], mean["LTR"])
    assert max(mean["SSJF"], mean["LTR"]) < mean["LongestFirst"]


def test_preemption_by_slices_helps_the_oracle_here() -> None:
    rows = workload()
    assert mean_s(served("OracleSRPT", rows)) < mean_s(served("OracleSJF", rows))


def test_past_future_without_a_bound_on_memory_is_arrival_order() -> None:
    rows = workload()
    assert served("PastFuture", rows) == served("FCFS", rows)


@pytest.mark.parametrize("name", ["PastFuture", "AMax", "AMin", "SortedF"])
def test_memory_rule_acts_once_the_cache_is_bounded(name: str) -> None:
    rows = workload()
    assert not assemble(name, oracle(rows), options=OPTIONS).rules
    (rule,) = assemble(name, oracle(rows), options=SystemOptions(kv_tokens=150)).rules
    here = [Running(request=request(prompt=100), admitted_at=0.0)]
    assert not rule.admits(request(prompt=100), here)


def test_truth_is_for_the_oracles_alone() -> None:
    assert {name for name, each in SYSTEMS.items() if each.predictor == "oracle"} == {
        "OracleSJF",
        "OracleSRPT",
    }


def test_every_run_gets_a_system_of_its_own() -> None:
    rows = workload()
    first, second = (assemble("EWSJF", oracle(rows), options=OPTIONS) for _ in range(2))
    assert first.policy is not second.policy


def test_heads_stand_around_the_predictor_of_the_run() -> None:
    inner = online(None)
    kinds = {
        name: type(assemble(name, inner, options=OPTIONS).predictor)
        for name in ("ALISE", "ELIS", "TIE", "HRRN")
    }
    assert kinds == {"ALISE": Retrieval, "ELIS": Remaining, "TIE": Spread, "HRRN": type(inner)}


def test_made_up_predictions_are_not_replaced_by_retrieval() -> None:
    inner = oracle(workload())
    assert assemble("ALISE", inner, options=OPTIONS).predictor is inner


def test_predictor_can_be_cut_to_classes() -> None:
    rows = workload()
    predicted = make_sim_predictor("classes:oracle", rows, seed=1)
    said = {predicted.predict(index, row).output_tokens for index, row in enumerate(rows)}
    assert said <= {21.0, 91.5, 217.5, 398.5, 754.5}
    with pytest.raises(ValueError, match="'psychic' is not known"):
        make_sim_predictor("classes:psychic", rows, seed=1)


def test_parameters_reach_the_policy() -> None:
    options = SystemOptions(tail_weight=2.0, parameters={"sliceSizeTokens": "20"})
    policy = assemble("ELIS", oracle(workload()), options=options).policy
    assert policy.tail_weight == 2.0
    assert getattr(policy, "slice_size_tokens") == 20  # noqa: B009 - the Protocol does not know it


def test_an_unknown_system_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'LIFO' is not known; known: FCFS, SSJF"):
        system_of("LIFO")
