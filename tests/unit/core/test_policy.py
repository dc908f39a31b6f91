"""Keys: the boost's limits, the branches of SSJF, the registry."""

from __future__ import annotations

import math

import pytest
from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.policies import POLICIES, make_policy
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf, boost_s
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Prediction, Request, RequestId


def request(*, arrived_at: float = 0.0, tokens: float = 100.0, prompt_tokens: int = 0) -> Request:
    return Request(
        id=RequestId("r"),
        arrived_at=arrived_at,
        prompt_tokens=prompt_tokens,
        prediction=Prediction(tokens, tokens, "test"),
    )


KNOWN = ServiceCosts(s_per_token=0.01, s_per_prefill_token=0.001, step_s=0.01)


def view(*, gamma_per_s: float = 1.0, costs: ServiceCosts | None = KNOWN) -> QueueView:
    return QueueView(
        now=5.0, depth=3, in_flight=2, limit_slots=4, gamma_per_s=gamma_per_s, costs=costs
    )


@pytest.mark.parametrize("cost_s", [0.001, 0.5, 1.0, 3.0, 50.0])
@pytest.mark.parametrize("gamma_per_s", [0.01, 1.0, 7.0])
def test_boost_is_the_published_formula(cost_s: float, gamma_per_s: float) -> None:
    expected = -math.log(1 - math.exp(-gamma_per_s * cost_s)) / gamma_per_s
    assert boost_s(cost_s, gamma_per_s) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma_per_s", [1e-290, 1e-12, 1.0, 1e12, 1e300, math.inf])
@pytest.mark.parametrize("cost_s", [0.0, 1e-300, 1e-9, 1.0, 1e9, 1e300, math.inf])
def test_boost_is_finite_and_never_negative(cost_s: float, gamma_per_s: float) -> None:
    boost = boost_s(cost_s, gamma_per_s)
    assert math.isfinite(boost)
    assert boost >= 0


def test_a_small_gamma_orders_by_cost_alone() -> None:
    policy, low = Ssjf(tail_weight=1e-9), view(gamma_per_s=1e-9)
    early_long = policy.key(request(arrived_at=0.0, tokens=101.0), low)
    late_short = policy.key(request(arrived_at=1e6, tokens=100.0), low)
    assert late_short < early_long


def test_a_large_gamma_orders_by_arrival_alone() -> None:
    policy, high = Ssjf(tail_weight=1e9), view(gamma_per_s=1e9)
    early_long = policy.key(request(arrived_at=0.0, tokens=1e6), high)
    late_short = policy.key(request(arrived_at=0.001, tokens=1.0), high)
    assert early_long < late_short


def test_tail_weight_zero_keys_by_cost_in_seconds() -> None:
    assert Ssjf(tail_weight=0).key(request(arrived_at=9.0), view()) == (pytest.approx(1.0),)


def test_tail_weight_zero_needs_no_observed_rate() -> None:
    assert Ssjf(tail_weight=0).key(request(), view(costs=None)) == (100.0,)


def test_before_costs_are_known_ssjf_is_arrival_order() -> None:
    assert Ssjf().key(request(arrived_at=4.0), view(costs=None)) == (4.0,)


def test_short_request_steps_ahead_of_a_long_one() -> None:
    short = Ssjf().key(request(arrived_at=1.0, tokens=10.0), view())
    assert short < Ssjf().key(request(arrived_at=0.0, tokens=1000.0), view())
    assert short == (pytest.approx(1.0 + math.log(1 - math.exp(-0.1))),)


def test_a_prompt_to_compute_counts_as_size() -> None:
    policy = Ssjf(tail_weight=0)
    assert policy.key(request(prompt_tokens=500), view()) == (pytest.approx(1.0 + 0.5),)
    assert policy.key(request(prompt_tokens=500), view(costs=None)) == (100.0 + 0.05 * 500,)


@pytest.mark.parametrize(
    ("policy", "costs", "bound_s"),
    [
        pytest.param(Ssjf(), KNOWN, math.log(100) / 2, id="ln(c / c_min) / gamma"),
        pytest.param(Ssjf(tail_weight=0), KNOWN, math.inf, id="shortest first promises nothing"),
        pytest.param(Ssjf(), None, 0.0, id="in start-up nobody overtakes"),
        pytest.param(Fcfs(), KNOWN, 0.0, id="nor in arrival order"),
    ],
)
def test_overtaking_is_bounded(
    policy: Ssjf | Fcfs, costs: ServiceCosts | None, bound_s: float
) -> None:
    told = policy.overtaking_bound_s(request(), view(gamma_per_s=2.0, costs=costs))
    assert told == pytest.approx(bound_s)


def test_fcfs_keys_by_arrival() -> None:
    assert Fcfs().key(request(arrived_at=3.0), view()) == (3.0,)


@pytest.mark.parametrize("tail_weight", [-0.1, math.nan])
def test_a_tail_weight_below_zero_is_refused(tail_weight: float) -> None:
    with pytest.raises(ValueError, match="tail_weight"):
        Ssjf(tail_weight=tail_weight)


def test_registry_builds_what_it_names() -> None:
    assert POLICIES
    for name in POLICIES:
        policy = make_policy(name, tail_weight=2.5)
        assert (policy.name, policy.tail_weight) == (name, 2.5)


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'LIFO' is not known; known: FCFS, SSJF"):
        make_policy("LIFO")
