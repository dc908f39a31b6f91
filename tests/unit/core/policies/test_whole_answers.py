"""Orders of whole answers: their formulas on numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from fakes.queue_values import COSTS, request, view
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request

LATER = view(12.0)

# Costs: 10 ms a decode token, 1 ms a prefill token.
ROWS = [
    pytest.param("HRRN", request(tokens=200.0, arrived_at=2.0), LATER, (-5.0,), id="HRRN 10 / 2 s"),
    pytest.param("HRRN", request(arrived_at=13.0), LATER, (0.0,), id="HRRN younger than the view"),
    pytest.param("HRRN", request(tokens=20.0, arrived_at=2.0), view(12.0, costs=None), (-0.5,),
                 id="HRRN by tokens before costs are known"),
    pytest.param("ASRHRRN", request(prompt=40, arrived_at=2.0), LATER, (-0.25,), id="ASRHRRN"),
    pytest.param("ASRHRRN", request(prompt=0, arrived_at=2.0), LATER, (-10.0,), id="ASRHRRN empty"),
    pytest.param("PromptCost", request(prompt=90, cached_tokens=30), LATER, (60.0,),
                 id="PromptCost leaves out what is cached"),
    pytest.param("LongestFirst", request(tokens=100.0, prompt=500), LATER, (-1.5,), id="longest"),
    pytest.param("OracleSJF", request(tokens=100.0, prompt=500), LATER, (1.5,), id="OracleSJF"),
    pytest.param("OracleSRPT", request(tokens=100.0, prompt=500), LATER, (1.5,), id="OracleSRPT"),
    pytest.param("ALISE", request(tokens=100.0, prompt=500), LATER, (1.5,), id="ALISE"),
    pytest.param("PARS", request(tokens=100.0, prompt=500), LATER, (100.0,), id="PARS"),
    pytest.param("LTR", request(tokens=70.0, arrived_at=10.1), LATER, (1.0, 70.0),
                 id="LTR after 190 iterations"),
    pytest.param("LTR", request(tokens=70.0, arrived_at=9.9), LATER, (0.0, 70.0),
                 id="LTR after 210 iterations"),
    pytest.param("LTR", request(tokens=70.0), view(1e6, costs=None), (1.0, 70.0),
                 id="LTR before steps are known"),
    # 30 x 4 + 4 x 5 / 2
    pytest.param("LAMPS", request(tokens=4.0, prompt=30), LATER, (130.0,), id="LAMPS area"),
    pytest.param("LAMPS", request(tokens=4.0, prompt=30, slots=2), LATER, (260.0,),
                 id="LAMPS area of two answers"),
    pytest.param("Gimbal", request(prompt=80, arrived_at=9.5), LATER, (60.0, 9.5),
                 id="Gimbal after a quarter of its aging"),
    pytest.param("Gimbal", request(prompt=80, arrived_at=1.0), LATER, (0.0, 1.0), id="Gimbal aged"),
    pytest.param("PastFuture", request(arrived_at=3.0), LATER, (3.0,), id="PastFuture is FCFS"),
    pytest.param("AMax", request(tokens=100.0, p90=250.0), LATER, (250.0,), id="AMax upper bound"),
    pytest.param("AMax", request(tokens=100.0, p90=250.0, max_tokens=200), LATER, (200.0,),
                 id="AMax clipped"),
    pytest.param("AMin", request(tokens=100.0, p90=250.0), LATER, (40.0,), id="AMin lower bound"),
    pytest.param("AMin", request(tokens=100.0, p90=math.nan), LATER, (100.0,), id="AMin no spread"),
    pytest.param("ResponseLengthPerception", request(tokens=149.0), LATER, (2.0,), id="third cell"),
    pytest.param("ResponseLengthPerception", request(tokens=50.0), LATER, (1.0,), id="second cell"),
    pytest.param("SortedF", request(tokens=10.0, prompt=90), LATER, (1000.0,), id="SortedF"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "asked", "seen", "key"), ROWS)
def test_key_is_the_published_formula(
    name: str, asked: Request, seen: QueueView, key: tuple[float, ...]
) -> None:
    assert make_policy(name).key(asked, seen) == pytest.approx(key)


def test_random_order_follows_from_seed_and_id_alone() -> None:
    names = [str(number) for number in range(400)]
    keys = [make_policy("Random").key(request(name), view())[0] for name in names]
    again = [make_policy("Random").key(request(name, tokens=7.0), view(99.0))[0] for name in names]
    other = [
        make_policy("Random", parameters={"seed": "2"}).key(request(n), view())[0] for n in names
    ]
    assert keys == again
    assert keys != other
    assert sum(keys) / len(keys) == pytest.approx(0.5, abs=0.05)
    rises = sum(low < high for low, high in pairwise(keys))
    assert 150 < rises < 250, "ids in a row are not served in a row"


def test_tie_without_a_spread_is_the_length_plus_the_least_beta() -> None:
    # CVaR of a fixed length is the length: 100 + 0.1 x 100.
    assert make_policy("TIE").key(request(tokens=100.0), view()) == pytest.approx((110.0,))


@pytest.mark.parametrize(
    ("depth", "beta"),
    [
        pytest.param(0, 0.1, id="empty queue"),
        pytest.param(24, 0.3, id="three a slot"),
        pytest.param(400, 0.5, id="fifty a slot"),
    ],
)
def test_tie_weighs_the_tail_by_the_length_of_the_queue(depth: int, beta: float) -> None:
    key = make_policy("TIE").key(request(tokens=100.0), view(depth=depth, limit_slots=8))
    assert key == pytest.approx((100 * (1 + beta),))


def test_tie_discounts_by_a_tenth_for_every_half_minute_waited() -> None:
    policy, asked = make_policy("TIE"), request(tokens=100.0)
    fresh, waited = policy.key(asked, view(29.0))[0], policy.key(asked, view(61.0))[0]
    assert waited == pytest.approx(fresh * 0.81)


def test_tie_prefers_the_surer_of_two_equal_lengths() -> None:
    policy = make_policy("TIE")
    sure, unsure = request(tokens=100.0, p90=120.0), request(tokens=100.0, p90=400.0)
    assert policy.key(sure, view()) < policy.key(unsure, view())


def test_tie_counts_no_token_beyond_max_tokens() -> None:
    # All of a wild tail is cut at 150: the mean lies below, the worst tenth at the bound.
    asked = request(tokens=100.0, p90=1e6, max_tokens=150)
    mean = make_policy("TIE").key(asked, view())[0] - 0.1 * 150
    assert 40 < mean < 150


def test_keys_that_age_name_how_long_they_last() -> None:
    aging = {"HRRN": 0.1, "ASRHRRN": 0.1, "LTR": 0.1, "EWSJF": 0.1, "Gimbal": 0.1, "TIE": 0.25}
    assert {name: make_policy(name).keys_last_s for name in aging} == aging
    assert make_policy("PARS").keys_last_s == math.inf


def test_step_time_is_what_ltr_counts_in() -> None:
    assert 200 * COSTS.step_s == 2.0
