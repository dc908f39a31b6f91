"""Intervals are paired by seed, and say nothing when there is nothing to say."""

from __future__ import annotations

import math

import pytest
from llmservice_lab.benchmarks import statistics


def test_a_ratio_is_the_mean_of_the_seeds_own_ratios() -> None:
    found = statistics.ratio([2.0, 9.0], [1.0, 3.0])
    assert found.value == pytest.approx(2.5)
    assert found.low == pytest.approx(2.0)
    assert found.high == pytest.approx(3.0)


def test_equal_ratios_have_no_width_however_much_the_seeds_differ() -> None:
    found = statistics.ratio([1.0, 10.0, 100.0], [2.0, 20.0, 200.0])
    assert (found.low, found.value, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_seed_has_no_interval() -> None:
    found = statistics.mean([3.0])
    assert (found.low, found.value, found.high) == (3.0, 3.0, 3.0)


def test_the_share_weighs_seeds_by_what_is_at_stake() -> None:
    found = statistics.share([3.0, 9.0], [4.0, 10.0], [2.0, 9.0])
    assert found.value == pytest.approx((1 + 1) / (2 + 1))


def test_of_no_gain_there_is_no_share() -> None:
    assert math.isnan(statistics.share([1.0, 1.0], [1.0, 1.0], [1.0, 1.0]).value)


def test_the_same_figures_give_the_same_interval() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert statistics.mean(values) == statistics.mean(values)
