"""The Gittins rank against distributions whose index is known."""

from __future__ import annotations

import math

import pytest
from fakes.queue_values import request, view
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.policies.gittins import gittins_rank, spread_of


@pytest.mark.parametrize(
    ("values", "weights", "rank"),
    [
        pytest.param((7.0,), (1.0,), 7.0, id="a known size is its own rank"),
        # Stop at 1: (.5 x 1 + .5 x 1) / .5 = 2; at 9: 5.
        pytest.param((1.0, 9.0), (0.5, 0.5), 2.0, id="worth trying for the short half"),
        # Stop at 4: 4 / .1 = 40; at 5: (.1 x 4 + .9 x 5) / 1 = 4.9.
        pytest.param((4.0, 5.0), (0.1, 0.9), 4.9, id="nearly certain"),
        pytest.param((1.0, 9.0), (2.0, 2.0), 2.0, id="weights need not add up to one"),
    ],
)
def test_rank_is_the_least_price_per_completion(
    values: tuple[float, ...], weights: tuple[float, ...], rank: float
) -> None:
    assert gittins_rank(values, weights) == pytest.approx(rank)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0])
def test_spread_is_that_of_the_lognormal_with_these_quantiles(sigma: float) -> None:
    p90 = 100 * math.exp(1.28155 * sigma - sigma**2 / 2)
    assert spread_of(100.0, p90) == pytest.approx(sigma, abs=1e-6)


@pytest.mark.parametrize(
    ("p90", "sigma"),
    [
        pytest.param(math.nan, 0.0, id="NaN"),
        pytest.param(50.0, 0.0, id="below the mean"),
        pytest.param(math.inf, 1.28155, id="wider than any lognormal"),
    ],
)
def test_impossible_quantile_gives_the_nearest_spread(p90: float, sigma: float) -> None:
    assert spread_of(100.0, p90) == pytest.approx(sigma)


def test_without_a_spread_the_key_is_the_cost() -> None:
    key = make_policy("Gittins").key(request(tokens=100.0, prompt=500), view())
    assert key == pytest.approx((1.5,))


def test_a_gamble_ranks_before_a_sure_thing_of_the_same_mean() -> None:
    policy = make_policy("Gittins")
    gamble, sure = request(tokens=100.0, p90=220.0), request(tokens=100.0, p90=100.0)
    assert policy.key(gamble, view()) < policy.key(sure, view())
