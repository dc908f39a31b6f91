"""The horizon: work in system, its mean excess, and when a figure has moved."""

from __future__ import annotations

import random

import pytest
from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.gamma import WorkEstimator, costs_moved, mean_excess, moved

COSTS = ServiceCosts(s_per_token=0.01, s_per_prefill_token=0.001, step_s=0.01)


def test_the_horizon_is_the_largest_of_work_excess_and_a_millisecond() -> None:
    estimator = WorkEstimator()
    assert estimator.horizon_s(0.0) == 1e-3
    assert estimator.horizon_s(4.0) == 4.0
    for number in range(64):
        estimator.observe_arrival(10.0 if number % 8 == 0 else 1.0, now=0.0)
    assert estimator.excess_s == pytest.approx(9.0)
    assert estimator.horizon_s(4.0) == pytest.approx(18.0)
    assert estimator.horizon_s(40.0) == 40.0


def test_excess_is_refreshed_every_32_arrivals_from_64_on() -> None:
    estimator = WorkEstimator()
    seen: list[float] = []
    for number in range(130):
        estimator.observe_arrival(float(number), now=0.0)
        seen.append(estimator.excess_s)
    changes = [n + 1 for n in range(1, 130) if seen[n] != seen[n - 1]]
    assert changes == [64, 96, 128]


def test_excess_forgets_what_is_4096_arrivals_old() -> None:
    estimator = WorkEstimator()
    for _ in range(64):
        estimator.observe_arrival(1000.0, now=0.0)
    for number in range(4096):
        estimator.observe_arrival(float(number % 2), now=0.0)
    assert estimator.excess_s == 0.0  # the upper value is itself the 80 % quantile


def test_excess_is_of_the_last_4096_arrivals_exactly() -> None:
    estimator, rng = WorkEstimator(), random.Random(4)
    # Few distinct values, so that the one forgotten has equals.
    values = [float(rng.randrange(50)) for _ in range(4096 + 96)]
    for value in values:
        estimator.observe_arrival(value, now=0.0)
    assert estimator.excess_s == mean_excess(sorted(values[-4096:]), quantile=0.8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([5.0], 0.0, id="one value exceeds nothing"),
        pytest.param([2.0] * 10, 0.0, id="equal values exceed nothing"),
        pytest.param([0.0] * 8 + [1.0, 4.0], 3.0, id="the quantile is one of the values"),
        pytest.param(list(map(float, range(10))), 1.0, id="nine exceeds eight by one"),
    ],
)
def test_mean_excess(values: list[float], expected: float) -> None:
    assert mean_excess(values, quantile=0.8) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(1.0, 1.04, False, id="four per cent is no move"),
        pytest.param(1.0, 1.06, True, id="six per cent up is"),
        pytest.param(1.0, 0.94, True, id="six per cent down is"),
        pytest.param(0.0, 0.0, False, id="zero stays zero"),
        pytest.param(0.0, 1e-9, True, id="anything is a move from zero"),
        pytest.param(float("inf"), float("inf"), False, id="infinity stays infinity"),
    ],
)
def test_moved(before: float, after: float, *, expected: bool) -> None:
    assert moved(before, after) is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, None, False, id="unknown stays unknown"),
        pytest.param(None, COSTS, True, id="becoming known is a move"),
        pytest.param(COSTS, COSTS, False, id="the same is none"),
        pytest.param(COSTS, ServiceCosts(0.0119, 0.001, 0.01), False, id="19 per cent is none"),
        pytest.param(COSTS, ServiceCosts(0.0121, 0.001, 0.01), True, id="21 per cent is one"),
        pytest.param(COSTS, ServiceCosts(0.0079, 0.001, 0.01), True, id="so it is downwards"),
        pytest.param(
            COSTS,
            ServiceCosts(0.01, 0.00109, 0.01),
            False,
            id="a prompt token may move by a hundredth of a step",
        ),
        pytest.param(COSTS, ServiceCosts(0.01, 0.00089, 0.01), True, id="and no further"),
        pytest.param(COSTS, ServiceCosts(0.01, 0.001, 0.02), False, id="a step alone is in no key"),
    ],
)
def test_costs_moved(
    before: ServiceCosts | None, after: ServiceCosts | None, *, expected: bool
) -> None:
    assert costs_moved(before, after) is expected


def test_beyond_twelve_mean_requests_the_horizon_grows_as_the_square_root() -> None:
    estimator = WorkEstimator()
    for _ in range(8):
        estimator.rates.observe(1.0, predicted_tokens=100.0, output_tokens=100.0)
    assert estimator.horizon_s(12.0) == pytest.approx(12.0)
    assert estimator.horizon_s(48.0) == pytest.approx(24.0)
    assert estimator.horizon_s(1200.0) == pytest.approx(120.0)
