"""The guard: which predictors it lets order the queue, and when it changes its mind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from llmservice_sidecar.core.guard import ArrivalOrder, Guard

Predictor = Callable[[float, random.Random], float]


def oracle(actual: float, rng: random.Random) -> float:
    return actual


def noisy(actual: float, rng: random.Random) -> float:
    return actual * math.exp(rng.gauss(0, 1.5))


def chance(actual: float, rng: random.Random) -> float:
    return rng.random()


def inverted(actual: float, rng: random.Random) -> float:
    return 1.0 / actual


def constant(actual: float, rng: random.Random) -> float:
    return 100.0


def not_a_number(actual: float, rng: random.Random) -> float:
    return math.nan


def guard(*, starts_trusted: bool, min_samples: int = 50, window: int = 400) -> Guard:
    return Guard(min_samples=min_samples, window=window, starts_trusted=starts_trusted)


def feed(subject: Guard, predictor: Predictor, count: int, *, seed: int = 1) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        actual = rng.lognormvariate(4.5, 1.0)
        subject.observe(predictor(actual, rng), actual)


@pytest.mark.parametrize("predictor", [chance, inverted, constant, not_a_number])
def test_a_trusted_predictor_that_does_not_rank_falls_back_to_arrival_order(
    predictor: Predictor,
) -> None:
    subject = guard(starts_trusted=True)
    feed(subject, predictor, 1000)
    assert not subject.closed
    assert subject.calibrated is False


@pytest.mark.parametrize("predictor", [oracle, noisy])
def test_an_untrusted_predictor_that_ranks_is_let_in(predictor: Predictor) -> None:
    subject = guard(starts_trusted=False)
    assert not subject.closed
    feed(subject, predictor, 400)
    assert subject.closed
    assert subject.calibrated is True


@pytest.mark.parametrize("predictor", [chance, inverted, constant])
def test_an_untrusted_predictor_that_does_not_rank_stays_out(predictor: Predictor) -> None:
    subject = guard(starts_trusted=False)
    feed(subject, predictor, 1000)
    assert not subject.closed


@pytest.mark.parametrize("starts_trusted", [True, False])
def test_nothing_is_told_below_the_minimum_of_samples(*, starts_trusted: bool) -> None:
    subject = guard(starts_trusted=starts_trusted)
    feed(subject, oracle, 49)
    assert subject.samples == 49
    assert subject.closed is starts_trusted
    judged = (subject.calibrated, subject.tau, subject.tau_lower, subject.tau_upper)
    assert judged == (None, None, None, None)
    feed(subject, oracle, 1)
    assert subject.tau is not None


def test_the_worst_predictor_is_dropped_before_the_minimum_of_samples() -> None:
    subject = guard(starts_trusted=True)
    feed(subject, inverted, 31)
    assert subject.closed
    feed(subject, inverted, 1)
    assert not subject.closed
    assert subject.tau is None


@pytest.mark.parametrize("others", [0, 1, 8])
@pytest.mark.parametrize("identical", [32, 64, 399])
def test_one_request_over_and_over_is_no_evidence_against_the_predictor(
    identical: int, others: int
) -> None:
    subject = guard(starts_trusted=True)
    feed(subject, inverted, others)
    for _ in range(identical):
        subject.observe(120.0, 50.0)
    assert subject.closed


def test_identical_requests_do_not_hide_a_bad_predictor() -> None:
    subject = guard(starts_trusted=True)
    for _ in range(100):
        subject.observe(120.0, 50.0)
        feed(subject, inverted, 1, seed=subject.samples)
    assert not subject.closed


def test_it_opens_when_the_predictor_breaks_and_closes_when_it_is_mended() -> None:
    subject = guard(starts_trusted=False)
    feed(subject, noisy, 400)
    assert subject.closed
    feed(subject, inverted, 400)
    assert not subject.closed
    feed(subject, noisy, 400)
    assert subject.closed


def test_evidence_between_the_two_bounds_changes_nothing() -> None:
    for starts_trusted in (True, False):
        subject = guard(starts_trusted=starts_trusted, min_samples=20, window=40)
        rng = random.Random(5)
        for _ in range(40):  # tau about 0.3 in 40 samples: neither surely bad nor surely good
            actual = rng.gauss(0, 1)
            subject.observe(0.35 * actual + rng.gauss(0, 1), actual)
        assert subject.tau_lower is not None
        assert subject.tau_lower < 0.15
        assert subject.tau_upper is not None
        assert subject.tau_upper > 0.10
        assert subject.closed is starts_trusted


@pytest.mark.parametrize(("min_samples", "window"), [(1, 10), (11, 10)])
def test_impossible_settings_are_refused(min_samples: int, window: int) -> None:
    with pytest.raises(ValueError, match="2 <= min_samples <= window"):
        guard(starts_trusted=True, min_samples=min_samples, window=window)


def order_into(seen: list[int]) -> ArrivalOrder[int]:
    return ArrivalOrder[int](seen.append, max_age_s=60.0)


def test_outcomes_are_handed_on_in_arrival_order_whoever_finishes_first() -> None:
    seen: list[int] = []
    order = order_into(seen)
    for name in ("a", "b", "c"):
        order.arrived(name, now=0.0)
    order.finished("c", 3, now=1.0)
    order.finished("b", 2, now=2.0)
    assert seen == []
    order.finished("a", 1, now=3.0)
    assert seen == [1, 2, 3]


def test_a_request_older_than_the_age_holds_back_nobody_and_is_no_sample() -> None:
    seen: list[int] = []
    order = order_into(seen)
    order.arrived("stuck", now=0.0)
    order.arrived("short", now=1.0)
    order.finished("short", 5, now=2.0)
    order.arrived("later", now=60.5)
    assert seen == [5]
    order.finished("stuck", 9, now=70.0)
    assert seen == [5]


def test_a_cancelled_request_is_no_sample_and_holds_back_nobody() -> None:
    seen: list[int] = []
    order = order_into(seen)
    order.arrived("gone", now=0.0)
    order.arrived("next", now=0.0)
    order.finished("next", 4, now=1.0)
    order.left("gone", now=2.0)
    order.left("gone", now=2.0)
    assert seen == [4]


def test_a_large_window_is_judged_in_steps_spread_over_the_samples_to_come() -> None:
    spread = guard(starts_trusted=True, min_samples=500, window=2000)
    feed(spread, oracle, 500)
    assert spread.tau is None, "the first judgement has only begun"
    feed(spread, oracle, 25)
    assert spread.tau == 1.0
    assert spread.calibrated is True


def test_a_window_that_is_restated_is_judged_by_its_new_content() -> None:
    subject = guard(starts_trusted=True)
    feed(subject, oracle, 100)
    assert subject.closed
    subject.restate([(100.0, float(actual)) for actual in range(100)])
    assert subject.samples == 100
    feed(subject, constant, 1)
    assert not subject.closed
