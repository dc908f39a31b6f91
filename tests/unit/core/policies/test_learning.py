"""Policies that learn from offers: the median of QLLM, the groups of EWSJF, the turns of SCLS."""

from __future__ import annotations

import math

import pytest
from fakes.queue_values import request, view
from llmservice_sidecar.core.policies.ewsjf import LEARN_EVERY, Ewsjf
from llmservice_sidecar.core.policies.prompt_groups import group_bounds
from llmservice_sidecar.core.policies.qllm import WINDOW_OFFERS, Qllm
from llmservice_sidecar.core.policies.scls import MAX_REMEMBERED, Scls


@pytest.mark.parametrize(
    ("priority", "tokens", "best_effort"),
    [
        pytest.param(1, 900.0, 0.0, id="a priority makes it urgent"),
        pytest.param(-1, 1.0, 1.0, id="a negative one best effort"),
        pytest.param(0, 20.0, 0.0, id="the median itself is urgent"),
        pytest.param(0, 21.0, 1.0, id="what is longer is not"),
    ],
)
def test_qllm_parts_by_priority_then_by_the_median(
    priority: int, tokens: float, best_effort: float
) -> None:
    policy = Qllm()
    for length in (10.0, 20.0, 30.0):
        policy.offered(request(tokens=length))
    asked = request(tokens=tokens, priority=priority, arrived_at=4.0)
    assert policy.key(asked, view()) == (best_effort, 4.0)


def test_qllm_forgets_old_lengths() -> None:
    policy = Qllm()
    for length in (*[1.0] * WINDOW_OFFERS, *[500.0] * WINDOW_OFFERS):
        policy.offered(request(tokens=length))
    assert policy.key(request(tokens=400.0), view())[0] == 0.0


def test_qllm_takes_the_first_request_of_all_as_urgent() -> None:
    assert Qllm().key(request(), view())[0] == 0.0


@pytest.mark.parametrize(
    ("lengths", "bounds"),
    [
        pytest.param([], [], id="nothing seen"),
        pytest.param([100] * 50, [], id="all alike"),
        pytest.param([10] * 50 + [1000] * 50, [1000], id="two kinds"),
        pytest.param([*range(90, 110), *range(1900, 2100, 10)], [1900], id="two clouds"),
        pytest.param([5, 6, 7, 300, 310, 8000, 8100], [300, 8000], id="three kinds"),
        pytest.param(
            [10] * 20 + [100] * 20 + [1000] * 20 + [10_000] * 20 + [100_000] * 20,
            [100, 1000, 10_000, 100_000],
            id="more kinds than k-means looks for",
        ),
    ],
)
def test_prompts_are_grouped_by_length(lengths: list[int], bounds: list[int]) -> None:
    assert group_bounds(lengths) == bounds


def test_ewsjf_scores_by_urgency_and_fairness() -> None:
    # 1 + 1 x 2 s / (10 ms step + 90 x 1 ms) + 1 x ln 91, the only group.
    score = 1 + 2.0 / 0.1 + math.log(91)
    key = Ewsjf().key(request(prompt=90, arrived_at=1.0), view(3.0))
    assert key == pytest.approx((-score,))


def test_ewsjf_divides_by_the_rank_of_the_learned_group() -> None:
    policy = Ewsjf(base_weight=1.0, urgency_weight=0.0, fairness_weight=0.0)
    for number in range(LEARN_EVERY):
        policy.offered(request(prompt=10 if number % 2 else 4000))
    assert policy.key(request(prompt=12), view()) == (-1.0,)
    assert policy.key(request(prompt=4100), view()) == (-0.5,)


def test_scls_gives_every_slice_the_last_turn() -> None:
    policy = Scls()
    for name in ("a", "b", "c", "a"):
        policy.offered(request(name))
    order = sorted("abc", key=lambda name: policy.key(request(name), view()))
    assert order == ["b", "c", "a"]


def test_scls_remembers_a_bounded_number_of_turns() -> None:
    policy = Scls()
    for number in range(MAX_REMEMBERED + 1):
        policy.offered(request(str(number)))
    assert policy.key(request("0"), view())[0] == 0.0
    assert policy.key(request("1"), view())[0] == 1.0
