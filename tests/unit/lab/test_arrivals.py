"""Arrival processes: their rate, their spread, their bursts."""

from __future__ import annotations

import random
import statistics
from itertools import pairwise

import pytest
from llmservice_lab.arrivals import (
    Arrivals,
    Burst,
    Gamma,
    Recorded,
    arrival_times,
    parse_arrivals,
    repeat,
)

RECORDED = [float(number) * 2 for number in range(5000)]  # half a request a second


def times(arrivals: Arrivals, *, rate_per_s: float | None) -> list[float]:
    return arrival_times(
        arrivals, RECORDED, rate_per_s=rate_per_s, capacity_per_s=10.0, rng=random.Random(3)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recorded", Recorded()),
        ("poisson", Gamma(1.0)),
        ("gamma:3", Gamma(3.0)),
        ("burst:1.5,60,600", Burst(1.5, 60.0, 600.0)),
    ],
)
def test_arrivals_are_parsed(text: str, expected: Arrivals) -> None:
    assert parse_arrivals(text) == expected


@pytest.mark.parametrize(
    "text", ["", "gamma", "gamma:0", "gamma:x", "burst:1,2", "burst:2,60,60", "recorded:1"]
)
def test_other_arrivals_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"recorded \| poisson \| gamma:CV"):
        parse_arrivals(text)


@pytest.mark.parametrize("arrivals", [Recorded(), Gamma(), Gamma(3.0)])
@pytest.mark.parametrize("rate_per_s", [None, 8.0])
def test_the_rate_is_as_asked(arrivals: Arrivals, rate_per_s: float | None) -> None:
    at = times(arrivals, rate_per_s=rate_per_s)
    assert at == sorted(at)
    measured = (len(at) - 1) / (at[-1] - at[0])
    assert measured == pytest.approx(rate_per_s or 0.5, rel=0.12)


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gaps_spread_as_asked(cv: float) -> None:
    gaps = [after - before for before, after in pairwise(times(Gamma(cv), rate_per_s=5.0))]
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(cv, rel=0.12)


def test_recorded_times_start_at_zero_and_keep_their_shape() -> None:
    at = arrival_times(
        Recorded(), [5.0, 6.0, 9.0], rate_per_s=1.0, capacity_per_s=1.0, rng=random.Random(0)
    )
    assert at == [0.0, 0.5, 2.0]


def test_bursts_come_at_the_end_of_each_period() -> None:
    at = times(Burst(2.0, 10.0, 50.0), rate_per_s=5.0)  # 20 a second in the last 10 s of 50 s
    periods = int(at[-1] // 50)
    inside = [t for t in at if t < periods * 50 and t % 50 >= 40]
    outside = [t for t in at if t < periods * 50 and t % 50 < 40]
    assert len(inside) / periods == pytest.approx(200, rel=0.1)
    assert len(outside) / periods == pytest.approx(200, rel=0.1)


def test_without_a_rate_a_single_moment_cannot_be_spaced() -> None:
    with pytest.raises(ValueError, match="give a load"):
        arrival_times(
            Gamma(), [1.0, 1.0], rate_per_s=None, capacity_per_s=1.0, rng=random.Random(0)
        )


def test_a_recording_repeats_after_a_mean_gap() -> None:
    assert repeat([1.0, 2.0, 4.0], 7) == pytest.approx([0.0, 1.0, 3.0, 4.5, 5.5, 7.5, 9.0])
    assert repeat([1.0, 2.0, 4.0], 2) == [0.0, 1.0]
    assert repeat([3.0], 2) == [0.0, 0.0]
