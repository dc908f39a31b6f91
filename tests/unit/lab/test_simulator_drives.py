"""What the simulator drives beside the order: slices, rules, priorities, deadlines, estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from llmservice_lab.cost_model import CostModel
from llmservice_lab.sim_engine import EngineOptions
from llmservice_lab.sim_predictors import Fixed, oracle
from llmservice_lab.simulator import Setup, simulate
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.policies.elis import Elis
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Outcome, Prediction, Request
from llmservice_sidecar.core.rules import Running

# One slot and a step of one second: a request's service is its output tokens, exactly.
ONE_SERVER = CostModel(step_s=1.0, per_decode_s=0.0, per_prefill_token_s=0.0)


def rows_of(lengths: Sequence[int]) -> list[WorkloadRequest]:
    return [
        WorkloadRequest(arrival_s=0.0, prompt=None, prompt_tokens=0, output_tokens=length)
        for length in lengths
    ]


def one_slot(policy: OrderingPolicy, *, arrivals_s: Sequence[float] = (0.0, 10.5)) -> Setup:
    """One slot: 100 tokens, then 20 that come while the first slice of 50 runs."""
    rows = rows_of([100, 20])
    return Setup(
        rows=rows,
        arrivals_s=arrivals_s,
        policy=policy,
        predictor=oracle(rows),
        costs=ONE_SERVER,
        slots=1,
        guarded=False,
    )


def test_at_the_end_of_a_slice_the_shorter_rest_goes_first() -> None:
    long, short = simulate(one_slot(Elis()))
    assert (short.finished_s, long.finished_s) == (70.0, 120.0)
    assert long.admitted_s == 0.0
    assert long.first_token_s == 1.0
    assert long.output_tokens == 100


def test_a_slice_competes_for_the_slot_that_it_gives_up() -> None:
    # 20 against a rest of 10: who waits does not get the slot just because it is free.
    long, short = simulate(one_slot(Elis(slice_size_tokens=90)))
    assert (long.finished_s, short.finished_s) == (100.0, 120.0)


def test_predictions_are_of_what_is_left() -> None:
    seen: list[tuple[int, float, int]] = []

    class Watching(Fixed):
        def predict_remaining(self, index: int, row: WorkloadRequest, generated: int) -> Prediction:
            seen.append((index, row.output_tokens, generated))
            return Prediction(1.0, 1.0, "watching")

    setup = one_slot(Elis())
    predictor = Watching([100.0, 20.0], source="watching")
    long, short = simulate(replace(setup, predictor=predictor))
    assert seen == [(0, 100, 50)]
    assert long.finished_s == 100.0  # said to be nearly done, it went on
    assert short.finished_s == 120.0


def test_resumed_slices_recompute_what_no_cache_holds() -> None:
    costs = CostModel(step_s=1.0, per_decode_s=0.0, per_prefill_token_s=0.1)
    row = WorkloadRequest(arrival_s=0.0, prompt=None, prompt_tokens=64, output_tokens=100)
    setup = replace(one_slot(Elis(), arrivals_s=[0.0]), rows=[row], costs=costs)
    (kept,) = simulate(replace(setup, predictor=oracle([row])))
    bare = EngineOptions(prefix_caching=False)
    (again,) = simulate(replace(setup, predictor=oracle([row]), options=bare))
    # 114 tokens at the resume, of which seven whole blocks are kept.
    assert kept.finished_s == pytest.approx(100 + 6.4 + 0.2)
    assert again.finished_s == pytest.approx(100 + 6.4 + 11.4)


def test_requests_beyond_the_slots_wait_inside_the_engine() -> None:
    setup = replace(one_slot(Fcfs()), limit_slots=2)
    first, second = simulate(setup)
    assert (first.engine_queue_s, second.engine_queue_s) == (0.0, 100.0 - 10.5)
    assert second.admitted_s == 10.5


def test_the_larger_priority_is_served_first() -> None:
    rows = [replace(row, priority=at) for at, row in enumerate(rows_of([10, 10, 10]))]
    setup = replace(one_slot(Fcfs(), arrivals_s=[0.0, 0.5, 0.5]), rows=rows, predictor=oracle(rows))
    assert [record.finished_s for record in simulate(setup)] == [10.0, 30.0, 20.0]


def test_who_cannot_meet_its_deadline_is_rejected() -> None:
    rows = [*rows_of([10] * 20), replace(rows_of([10])[0], deadline_s=15.0)]
    arrivals_s = [*(float(at) for at in range(20)), 19.5]
    records = simulate(
        replace(one_slot(Fcfs(), arrivals_s=arrivals_s), rows=rows, predictor=oracle(rows))
    )
    assert records[-1].outcome is Outcome.COMPLETED  # no costs are known yet
    late = [*arrivals_s[:20], 105.0]
    records = simulate(
        replace(one_slot(Fcfs(), arrivals_s=late), rows=rows, predictor=oracle(rows))
    )
    assert records[-1].outcome is Outcome.REJECTED


class TokenBudget:
    """An admission rule: the answers that run may have so many tokens left together."""

    def __init__(self, tokens: float) -> None:
        self._tokens = tokens

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        left = [each.request.predicted_tokens - each.generated for each in running]
        return sum(left) + request.predicted_tokens <= self._tokens


@pytest.mark.parametrize(
    ("arrival_s", "admitted_s"),
    [
        pytest.param(5.0, 100.0, id="95 tokens are left, and 20 more are too many"),
        pytest.param(60.0, 60.0, id="40 are left, so there is room for 20 more"),
    ],
)
def test_rules_see_how_far_the_running_requests_are(arrival_s: float, admitted_s: float) -> None:
    setup = one_slot(Fcfs(), arrivals_s=[0.0, arrival_s])
    _, second = simulate(replace(setup, slots=4, rules=(TokenBudget(100),)))
    assert second.admitted_s == admitted_s


def test_every_eighth_that_queues_is_told_its_wait() -> None:
    rows = rows_of([10] * 100)
    arrivals_s = [5.0 * at for at in range(100)]
    records = simulate(
        replace(one_slot(Fcfs(), arrivals_s=arrivals_s), rows=rows, predictor=oracle(rows))
    )
    told = [r for r in records if r.predicted_wait_s is not None]
    assert 10 <= len(told) <= 12  # of 99, and none before costs are known
    for record in told:
        assert record.predicted_wait_s == pytest.approx(
            (record.admitted_s or 0.0) - record.arrival_s, rel=0.1, abs=10.0
        )
