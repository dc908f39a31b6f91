"""Kendall's tau-b against scipy, and its interval against repeated sampling."""

from __future__ import annotations

import importlib
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.core.rank_correlation import rank_correlation

FEW_VALUES = st.integers(min_value=0, max_value=6).map(float)
REALS = st.floats(allow_nan=False, allow_infinity=False, width=32)
PAIRS = st.lists(st.tuples(FEW_VALUES | REALS, FEW_VALUES | REALS), min_size=2, max_size=80)


def scipy_tau(x: list[float], y: list[float]) -> float:
    stats: Any = importlib.import_module("scipy.stats")  # ships no types
    return float(stats.kendalltau(x, y).statistic)


@given(PAIRS)
def test_tau_equals_scipy_with_and_without_ties(pairs: list[tuple[float, float]]) -> None:
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    found = rank_correlation(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert (found.tau, found.lower, found.upper) == (0.0, 0.0, 0.0)
    else:
        assert found.tau == pytest.approx(scipy_tau(x, y), abs=1e-9)
        assert -1.0 <= found.lower <= found.tau <= found.upper <= 1.0
    assert found.samples == len(pairs)


@given(PAIRS)
def test_turning_one_side_around_turns_the_sign(pairs: list[tuple[float, float]]) -> None:
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    forward, backward = rank_correlation(x, y), rank_correlation([-value for value in x], y)
    assert backward.tau == pytest.approx(-forward.tau)
    assert backward.lower == pytest.approx(-forward.upper)


@pytest.mark.parametrize("x", [[], [1.0]], ids=["no sample", "one sample"])
def test_fewer_than_two_samples_rank_nothing(x: list[float]) -> None:
    assert rank_correlation(x, x).tau == 0.0


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 predictions for 1 outcomes"):
        rank_correlation([1.0, 2.0], [1.0])


def test_the_interval_covers_the_true_tau_about_ninety_five_times_in_a_hundred() -> None:
    rng = random.Random(3)
    rho, hits, runs = 0.5, 0, 300
    truth = 2 / math.pi * math.asin(rho)  # tau of a bivariate normal
    for _ in range(runs):
        x = [rng.gauss(0, 1) for _ in range(120)]
        y = [rho * value + math.sqrt(1 - rho * rho) * rng.gauss(0, 1) for value in x]
        found = rank_correlation(x, y)
        hits += found.lower <= truth <= found.upper
    assert 0.91 <= hits / runs <= 0.98
