"""What is still to come of an answer that has come so far."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.core.remaining import length_of, remaining
from llmservice_sidecar.core.request import Prediction

EXPONENTIAL = Prediction(100.0, 230.0, "model", p50_tokens=69.0)  # p90 / mean - 1 = 1.3

means = st.floats(1, 1e5)
spreads = st.floats(1.0, 10.0)


def test_before_the_first_token_the_prediction_stays_as_it_is() -> None:
    assert remaining(EXPONENTIAL, 0) is EXPONENTIAL


def test_an_exponential_length_does_not_age() -> None:
    for generated in (1, 50, 200, 229):
        left = remaining(EXPONENTIAL, generated)
        assert left.output_tokens == pytest.approx(100)
        assert left.p50_tokens == pytest.approx(100 * math.log(2))
        assert left.p90_tokens == pytest.approx(100 * math.log(10))
        assert left.source == "model"


def test_a_certain_length_goes_down_to_its_end() -> None:
    left = remaining(Prediction(100.0, 100.0, "oracle"), 60)
    assert left == Prediction(40.0, 40.0, "oracle", p50_tokens=40.0)


def test_who_still_runs_has_a_token_to_come() -> None:
    assert remaining(Prediction(100.0, 100.0, "oracle"), 100).output_tokens == 1


def test_one_that_outlives_its_prediction_goes_on_for_a_part_of_its_age() -> None:
    left = remaining(Prediction(100.0, 100.0, "oracle"), 1000)
    assert left.output_tokens == 250
    assert left.p50_tokens == pytest.approx(250 * math.log(2))
    assert left.p90_tokens == pytest.approx(250 * math.log(10))


def test_a_light_tail_shortens_with_age_and_a_heavy_one_lengthens() -> None:
    light, heavy = Prediction(100.0, 150.0, "m"), Prediction(100.0, 280.0, "m")
    ages = (1, 20, 60, 120, 149)
    shrinking = [remaining(light, age).output_tokens for age in ages]
    growing = [remaining(heavy, age).output_tokens for age in ages]
    assert shrinking == sorted(shrinking, reverse=True)
    assert growing == sorted(growing)


@pytest.mark.parametrize("p90", [120.0, 160.0, 230.0, 300.0])
@pytest.mark.parametrize("generated", [1.0, 30.0, 90.0, 115.0])
def test_the_mean_is_that_of_the_quantiles(p90: float, generated: float) -> None:
    length = length_of(mean=100.0, p90=p90)
    steps = 100_000
    quantiles = (length.quantile_left((i + 0.5) / steps, generated) for i in range(steps))
    left = remaining(Prediction(100.0, p90, "m"), generated)
    assert left.output_tokens == pytest.approx(math.fsum(quantiles) / steps, rel=2e-3)


@given(mean=means, spread=spreads)
def test_at_no_age_the_remainder_is_the_whole(mean: float, spread: float) -> None:
    length = length_of(mean=mean, p90=mean * spread)
    assert length.mean_left(0.0) == pytest.approx(mean)


@given(mean=means, spread=spreads, age=st.floats(0, 1e30))
def test_what_is_left_is_finite_and_in_order(mean: float, spread: float, age: float) -> None:
    left = remaining(Prediction(mean, mean * spread, "m"), age * mean)
    assert left.p50_tokens is None or 1 <= left.p50_tokens <= left.p90_tokens < math.inf
    assert min(1, mean) <= left.output_tokens < math.inf


@given(mean=means, spread=spreads)
def test_with_age_the_expected_whole_only_grows(mean: float, spread: float) -> None:
    prediction = Prediction(mean, mean * spread, "m")
    ages = [mean * step / 4 for step in range(1, 40)]
    wholes = [age + remaining(prediction, age).output_tokens for age in ages]
    assert all(later >= sooner * (1 - 1e-9) for sooner, later in pairwise(wholes))


@pytest.mark.parametrize("wild", [math.nan, math.inf, -math.inf, 0.0, -5.0])
def test_a_mean_that_is_no_positive_number_stays_as_it_is(wild: float) -> None:
    prediction = Prediction(wild, 100.0, "m")
    assert remaining(prediction, 10) is prediction


@pytest.mark.parametrize("wild", [math.nan, math.inf, -math.inf, -5.0])
def test_a_wild_p90_is_no_spread(wild: float) -> None:
    assert remaining(Prediction(100.0, wild, "m"), 10).output_tokens == 90


@pytest.mark.parametrize("wild", [-1.0, math.nan, math.inf])
def test_an_impossible_age_is_refused(wild: float) -> None:
    with pytest.raises(ValueError, match="generated_tokens"):
        remaining(EXPONENTIAL, wild)


def test_the_least_spread_that_can_be_written_is_none() -> None:
    mean = math.nextafter(2.0, 0.0)
    assert remaining(Prediction(mean, 2.0, "m"), 0.5).output_tokens == pytest.approx(1.5)
