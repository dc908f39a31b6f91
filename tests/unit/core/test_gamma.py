"""The estimator: seconds per predicted token, work in system, mean excess, horizon."""

from __future__ import annotations

import pytest
from llmservice_sidecar.core.gamma import WorkEstimator, mean_excess, moved
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running


def learned(*, s_per_token: float = 0.01) -> WorkEstimator:
    estimator = WorkEstimator()
    for _ in range(8):
        estimator.observe_service(100 * s_per_token, work_tokens=100.0)
    return estimator


def running(*, first_token_at: float | None, slots: int = 1, work_tokens: float = 100.0) -> Running:
    request = Request(
        id=RequestId("r"),
        arrived_at=0.0,
        prompt_tokens=0,
        prediction=Prediction(work_tokens / slots, 0.0, "test"),
        slots=slots,
    )
    return Running(
        request=request, admitted_at=0.0, work_tokens=work_tokens, first_token_at=first_token_at
    )


def test_the_rate_is_unknown_until_eight_completions() -> None:
    estimator = WorkEstimator()
    for _ in range(7):
        estimator.observe_service(1.0, work_tokens=100.0)
        assert estimator.s_per_token is None
    estimator.observe_service(1.0, work_tokens=100.0)
    assert estimator.s_per_token == pytest.approx(0.01)


def test_the_rate_stays_unknown_while_answers_take_no_time() -> None:
    estimator = WorkEstimator()
    for _ in range(20):
        estimator.observe_service(-1.0, work_tokens=100.0)
    assert estimator.s_per_token is None


def test_the_rate_follows_the_last_few_hundred_completions() -> None:
    estimator = learned(s_per_token=0.01)
    for _ in range(2000):
        estimator.observe_service(2.0, work_tokens=100.0)
    assert estimator.s_per_token == pytest.approx(0.02, rel=1e-3)


def test_work_is_zero_while_the_rate_is_unknown() -> None:
    assert WorkEstimator().work_s(500.0, [running(first_token_at=None)], now=9.0) == 0.0


@pytest.mark.parametrize(
    ("first_token_at", "slots", "left_s"),
    [
        pytest.param(None, 1, 1.0, id="before its first token nothing is done"),
        pytest.param(9.75, 1, 0.75, id="then it decays with time"),
        pytest.param(9.75, 2, 0.5, id="in all its slots at once"),
        pytest.param(2.0, 1, 0.0, id="outliving its prediction leaves nothing, not less"),
    ],
)
def test_work_in_flight(first_token_at: float | None, slots: int, left_s: float) -> None:
    flight = running(first_token_at=first_token_at, slots=slots)
    work_s = learned().work_s(300.0, [flight], now=10.0)
    assert work_s == pytest.approx(3.0 + left_s)


def test_the_horizon_is_the_largest_of_work_excess_and_a_millisecond() -> None:
    estimator = learned()
    assert estimator.horizon_s(0.0) == 1e-3
    assert estimator.horizon_s(4.0) == 4.0
    for number in range(64):
        estimator.observe_arrival(10.0 if number % 8 == 0 else 1.0)
    assert estimator.excess_s == pytest.approx(9.0)
    assert estimator.horizon_s(4.0) == pytest.approx(18.0)


def test_excess_is_refreshed_every_32_arrivals_from_64_on() -> None:
    estimator = learned()
    seen: list[float] = []
    for number in range(130):
        estimator.observe_arrival(float(number))
        seen.append(estimator.excess_s)
    changes = [n + 1 for n in range(1, 130) if seen[n] != seen[n - 1]]
    assert changes == [64, 96, 128]


def test_arrivals_before_the_rate_is_known_do_not_count() -> None:
    estimator = WorkEstimator()
    for number in range(64):
        estimator.observe_arrival(float(number))
    assert estimator.excess_s == 0.0


def test_excess_forgets_what_is_4096_arrivals_old() -> None:
    estimator = learned()
    for _ in range(64):
        estimator.observe_arrival(1000.0)
    for number in range(4096):
        estimator.observe_arrival(float(number % 2))
    assert estimator.excess_s == 0.0  # the upper value is itself the 80 % quantile


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
        pytest.param(None, None, False, id="unknown stays unknown"),
        pytest.param(None, 1.0, True, id="becoming known is a move"),
    ],
)
def test_moved(before: float | None, after: float | None, *, expected: bool) -> None:
    assert moved(before, after) is expected
