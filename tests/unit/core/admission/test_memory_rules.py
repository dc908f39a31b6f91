"""The peak of KV memory and the rules that bound it, on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from fakes.queue_values import request
from llmservice_sidecar.core.admission.a_max import AMaxRule
from llmservice_sidecar.core.admission.a_min import AMinRule
from llmservice_sidecar.core.admission.interval import interval_of
from llmservice_sidecar.core.admission.memory import Occupant, peak_tokens
from llmservice_sidecar.core.admission.past_future import (
    WINDOW_ANSWERS,
    LengthHistory,
    PastFutureRule,
)
from llmservice_sidecar.core.admission.sorted_f import SortedFRule
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.rules import AdmissionRule, Running


def running(asked: Request, *, generated: int = 0) -> Running:
    return Running(request=asked, admitted_at=0.0, generated=generated)


@pytest.mark.parametrize(
    ("occupants", "peak"),
    [
        pytest.param([], 0.0, id="nobody"),
        pytest.param([Occupant(10, 5)], 15.0, id="one at its end"),
        # At the end of the short one: 2 x 10 + 5 + 30 = 55; at that of the long one: 100 + 5.
        pytest.param([Occupant(100, 5), Occupant(10, 30)], 105.0, id="the long one at its end"),
        pytest.param([Occupant(20, 5), Occupant(10, 30)], 55.0, id="both at the short one's end"),
        pytest.param([Occupant(10, 5, 3)], 35.0, id="three sequences grow together"),
    ],
)
def test_peak_is_the_largest_need_at_any_end(occupants: list[Occupant], peak: float) -> None:
    assert peak_tokens(occupants) == peak
    assert peak_tokens(reversed(occupants)) == peak


# One runs with 40 + 10 tokens and at least 20, about 60, at most 180 of answer; one wants to join
# with as much.
ALIKE = request(tokens=60.0, p90=180.0, prompt=40)


@pytest.mark.parametrize(
    ("rule", "need"),
    [
        # Left 170 and 180: 180 + 40 at the last end, 2 x 170 + 90 at the first.
        pytest.param(AMaxRule, 430, id="A_max by the upper bound"),
        pytest.param(AMinRule, 110, id="A_min by the lower bound"),
        pytest.param(SortedFRule, 190, id="Sorted-F as predicted"),
    ],
)
def test_rule_admits_up_to_exactly_its_peak(rule: type[AMaxRule], need: int) -> None:
    here = [running(ALIKE, generated=10)]
    assert rule(capacity_tokens=need).admits(ALIKE, here)
    assert not rule(capacity_tokens=need - 1).admits(ALIKE, here)


def test_a_min_raises_its_bound_as_tokens_come() -> None:
    # Outgrown: 40 + 50 held and one token to go, beside 40 and 20 to go: 2 x 1 + 130, or 20 + 40.
    here = [running(ALIKE, generated=50)]
    assert AMinRule(capacity_tokens=132).admits(ALIKE, here)
    assert not AMinRule(capacity_tokens=131).admits(ALIKE, here)


@pytest.mark.parametrize("rule", [AMaxRule(capacity_tokens=1), SortedFRule(capacity_tokens=1)])
def test_alone_everybody_may_run(rule: AdmissionRule) -> None:
    assert rule.admits(ALIKE, ())


def test_rules_without_a_capacity_never_refuse() -> None:
    here = [running(ALIKE)] * 1000
    assert AMaxRule().admits(ALIKE, here)
    assert AMinRule().admits(ALIKE, here)
    assert SortedFRule().admits(ALIKE, here)


@pytest.mark.parametrize(
    ("p90", "lower", "upper"),
    [
        pytest.param(180.0, 20.0, 180.0, id="a third to three times"),
        pytest.param(math.nan, 60.0, 60.0, id="NaN is no spread"),
        pytest.param(10.0, 60.0, 60.0, id="a quantile below the mean is none"),
        pytest.param(1e308, 3600 / 1e7, 1e7, id="wild"),
    ],
)
def test_interval_is_symmetric_in_ratios(p90: float, lower: float, upper: float) -> None:
    assert interval_of(request(tokens=60.0, p90=p90)) == pytest.approx((max(lower, 1.0), upper))


def test_past_future_draws_what_is_left_from_longer_answers_of_the_past() -> None:
    history = LengthHistory()
    for length in (30, 30, 30):
        history.observe(length)
    # 40 + 25 and 5 to go, 40 and 30 to go: 2 x 5 + 105, or 30 + 40.
    here = [running(ALIKE, generated=25)]
    assert PastFutureRule(capacity_tokens=115, history=history).admits(ALIKE, here)
    assert not PastFutureRule(capacity_tokens=114, history=history).admits(ALIKE, here)


def test_past_future_draws_as_the_past_was() -> None:
    history = LengthHistory()
    for length in range(1, 1001):
        history.observe(length)
    # Alone beside one of no size a request needs what was drawn for it.
    here = [running(request(tokens=1.0, max_tokens=1))]
    rule = PastFutureRule(capacity_tokens=500, history=history)
    admitted = sum(rule.admits(request(str(number)), here) for number in range(1000))
    assert 450 < admitted < 550


def test_past_future_goes_by_the_prediction_while_there_is_no_past() -> None:
    here = [running(ALIKE, generated=10)]
    assert PastFutureRule(capacity_tokens=190, history=LengthHistory()).admits(ALIKE, here)
    assert not PastFutureRule(capacity_tokens=189, history=LengthHistory()).admits(ALIKE, here)


def test_history_keeps_the_last_thousand() -> None:
    history = LengthHistory()
    for length in (*[5] * WINDOW_ANSWERS, *[9] * WINDOW_ANSWERS):
        history.observe(length)
    assert history.quantile(0.0) == 9.0
    assert history.quantile(0.9, above=9) is None
