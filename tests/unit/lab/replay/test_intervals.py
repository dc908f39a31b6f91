"""Intervals of differences between dependent series."""

from __future__ import annotations

import math

import numpy as np
import pytest
from llmservice_lab.replay.intervals import Floats, Resampling, block_length


def waits(count: int, *, memory: float, seed: int) -> Floats:
    """Around 10 seconds; `memory` is the correlation of neighbours."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=count) * math.sqrt(1 - memory**2)
    series = np.empty(count)
    series[0] = rng.normal()
    for index in range(1, count):
        series[index] = memory * series[index - 1] + noise[index]
    return 10.0 + series


def test_a_series_beside_itself_has_no_gain_and_no_doubt() -> None:
    series = waits(500, memory=0.9, seed=1)
    pairs = [(series, series)]
    change = Resampling(pairs, seed=1).change("e2e_mean", pairs)
    assert (change["gain"], change["low"], change["high"]) == (0.0, 0.0, 0.0)


def test_blocks_are_as_long_as_neighbours_depend_on_each_other() -> None:
    lone, dependent = (block_length(waits(4000, memory=m, seed=2)) for m in (0.0, 0.95))
    assert lone == 16  # the cube root of 4,000
    assert 50 < dependent < 160  # (1 + 0.95) / (1 - 0.95) = 39, twice
    assert block_length(np.zeros(1000)) == 10
    assert block_length(np.arange(40.0)) == 4  # ten blocks at least


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_nine_in_ten_intervals_hold_the_truth(memory: float) -> None:
    held = 0
    for seed in range(40):
        before = waits(1000, memory=memory, seed=seed)
        after = before - 4.0 + 0.5 * (waits(1000, memory=memory, seed=1000 + seed) - 10.0)
        pairs = [(before, after)]
        change = Resampling(pairs, seed=seed).change("e2e_mean", pairs)
        assert change["low"] is not None
        assert change["high"] is not None
        held += change["low"] <= 0.4 <= change["high"]
    assert held >= 34  # 38 expected


def test_percentiles_have_intervals_and_stretches_are_drawn_each_for_itself() -> None:
    first, second = waits(300, memory=0.5, seed=4), 100 * waits(30, memory=0.5, seed=5)
    pairs = [(first, first / 2), (second, second / 2)]
    change = Resampling(pairs, seed=1).change("e2e_p50", pairs, percent=50)
    assert change["gain"] == pytest.approx(0.5)
    # Were the 30 drawn among the 300, the mean of both would spread tenfold.
    mean = Resampling(pairs, seed=1).change("e2e_mean", pairs)
    assert mean["low"] == pytest.approx(0.5)
    assert mean["high"] == pytest.approx(0.5)


def test_nothing_that_was_no_time_at_all_can_be_gained_from() -> None:
    zeros = np.zeros(50)
    change = Resampling([(zeros, zeros)], seed=1).change("queue_wait_mean", [(zeros, zeros)])
    assert (change["gain"], change["low"], change["high"]) == (None, None, None)
