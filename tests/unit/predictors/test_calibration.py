"""Quantiles that keep their promise whatever the errors do, and a mean that is right over all."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.adapters.predictors.learned.calibration import (
    COLUMNS,
    WINDOW,
    Calibration,
    Kind,
)

PLAIN = Kind(log_tokens=5.0, log_spread=0.0)
LONG = Kind(log_tokens=8.0, log_spread=0.5)
FINITE = st.floats(-1e6, 1e6)


def learn(calibration: Calibration, z: float, *, kind: Kind = PLAIN) -> None:
    calibration.learn(z, log_tokens=5.0, deviation=1.0, kind=kind)


def reach(calibration: Calibration, *, kind: Kind = PLAIN) -> tuple[float, float]:
    """The standardised errors that its quantiles stand for."""
    median, upper = calibration.quantiles(0.0, 1.0, kind=kind)
    return math.log(median), math.log(upper)


def shares(calibration: Calibration, errors: list[float], *, kind: Kind = PLAIN) -> list[float]:
    """The shares of errors that were below the quantiles told just before them."""
    below: list[list[bool]] = []
    for error in errors:
        below.append([error <= bound for bound in reach(calibration, kind=kind)])
        learn(calibration, error, kind=kind)
    return np.mean(below, axis=0).tolist()


def as_assumed(rng: random.Random) -> float:
    return rng.gauss(0.1, 0.9)


def narrow(rng: random.Random) -> float:
    return rng.gauss(0.6, 0.2)


def skewed(rng: random.Random) -> float:
    return rng.expovariate(1.0) - 1.0


def two_humps(rng: random.Random) -> float:
    return rng.choice((-2.0, 0.1)) + rng.gauss(0.0, 0.05)


def heavy(rng: random.Random) -> float:
    """Student's t with two degrees of freedom: its variance is infinite."""
    return rng.gauss(0.0, 1.0) / math.sqrt(rng.expovariate(1.0))


@pytest.mark.parametrize(
    "draw",
    [
        as_assumed,
        narrow,
        skewed,
        heavy,
        two_humps,
    ],
    ids=["as assumed", "narrow and off", "skewed", "heavy tails", "two humps"],
)
def test_shares_are_what_they_are_called_within_two_hundred_outcomes(
    draw: Callable[[random.Random], float],
) -> None:
    found: list[list[float]] = []
    for seed in range(4):
        rng, calibration = random.Random(seed), Calibration()
        shares(calibration, [draw(rng) for _ in range(200)])
        found.append(shares(calibration, [draw(rng) for _ in range(500)]))
    assert np.mean(found, axis=0).tolist() == pytest.approx([0.5, 0.9], abs=0.02)
    assert np.abs(np.array(found) - [0.5, 0.9]).max() < 0.045


@pytest.mark.parametrize(
    ("offset", "scale"), [(0.0, 2.5), (0.0, 0.4), (0.3, 1.0)], ids=["wider", "narrower", "off"]
)
def test_shares_come_back_after_a_change(offset: float, scale: float) -> None:
    rng, calibration = random.Random(3), Calibration()
    shares(calibration, [heavy(rng) for _ in range(1200)])
    shares(calibration, [offset + scale * heavy(rng) for _ in range(500)])
    after = shares(calibration, [offset + scale * heavy(rng) for _ in range(1000)])
    assert after == pytest.approx([0.5, 0.9], abs=0.04)  # chance alone: 0.02


def test_shares_hold_while_the_world_drifts() -> None:
    rng, calibration = random.Random(4), Calibration()
    errors = [math.sin(step / 600.0) + rng.gauss(0.0, 0.5) for step in range(3000)]
    shares(calibration, errors[:200])
    assert shares(calibration, errors[200:]) == pytest.approx([0.5, 0.9], abs=0.03)


def test_kinds_of_work_have_quantiles_of_their_own() -> None:
    rng, calibration = random.Random(5), Calibration()
    below: dict[Kind, list[list[bool]]] = {PLAIN: [], LONG: []}
    for step in range(1500):
        kind = rng.choice((PLAIN, LONG))
        error = rng.gauss(0.0, 0.4) if kind is PLAIN else rng.gauss(0.3, 1.5)
        if step >= 300:
            below[kind].append([error <= bound for bound in reach(calibration, kind=kind)])
        learn(calibration, error, kind=kind)
    for told in below.values():
        assert np.mean(told, axis=0).tolist() == pytest.approx([0.5, 0.9], abs=0.04)


@given(
    st.lists(st.tuples(FINITE, st.floats(0.0, 12.0), st.floats(-2.3, 1.1)), max_size=60),
    st.floats(0.0, 12.0),
    st.floats(0.1, 3.0),
)
def test_the_median_is_never_above_the_upper_quantile(
    errors: list[tuple[float, float, float]], log_tokens: float, deviation: float
) -> None:
    calibration = Calibration()
    for error, guess, spread in errors:
        learn(calibration, error, kind=Kind(guess, spread))
    kind = Kind(log_tokens, math.log(deviation))
    median, upper = calibration.quantiles(log_tokens, deviation, kind=kind)
    assert 0.0 < median <= upper
    assert math.isfinite(upper)


def test_errors_of_replicas_count_until_they_are_forgotten() -> None:
    calibration = Calibration()
    errors = np.zeros((WINDOW, COLUMNS))
    errors[:, 0] = np.linspace(2.0, 3.0, WINDOW)
    errors[:, 1] = PLAIN.log_tokens
    for number in range(8):
        calibration.absorb({f"replica-{number}": (errors, np.ones(2))})
    assert reach(calibration)[0] > 2.0
    for number in range(8):
        calibration.absorb({f"replica-{number}": (np.zeros((0, COLUMNS)), np.zeros(2))})
    assert reach(calibration) == reach(Calibration())


def test_the_calibrated_mean_rises_with_the_predicted_spread() -> None:
    calibration = Calibration()
    means = [calibration.mean(5.0, deviation) for deviation in (0.1, 0.5, 1.0)]
    assert means[0] == pytest.approx(math.exp(5.0), rel=0.02)
    assert means == sorted(means)
    assert means[1] == pytest.approx(math.exp(5.0 + 0.125), rel=0.02)  # of a lognormal


def test_the_mean_is_right_over_all_although_errors_differ_in_shape() -> None:
    calibration = Calibration()
    rng = random.Random(12)
    actual, predicted = 0.0, 0.0
    for number in range(4000):
        wild = rng.random() < 0.5  # wide and cut above, or narrow with a tail
        deviation = 1.2 if wild else 0.2
        z = min(rng.gauss(0.0, 1.0), 0.5) if wild else rng.expovariate(1.0) - 0.7
        if number >= 2000:
            predicted += calibration.mean(5.0, deviation)
            actual += math.exp(5.0 + deviation * z)
        calibration.learn(z, log_tokens=5.0, deviation=deviation, kind=PLAIN)
    assert predicted / actual == pytest.approx(1.0, abs=0.05)


def test_what_it_has_learned_survives_and_is_bounded() -> None:
    calibration, copy = Calibration(), Calibration()
    for number in range(WINDOW + 10):
        learn(calibration, math.sin(number), kind=Kind(5.0, number / WINDOW))
    recent = calibration.recent()
    assert recent.shape == (WINDOW, COLUMNS)
    assert recent[-1].tolist() == [math.sin(WINDOW + 9), 5.0, (WINDOW + 9) / WINDOW]
    copy.restore(recent, totals=calibration.totals, offsets=calibration.offsets)
    assert np.array_equal(copy.recent(), recent)
    assert copy.mean(5.0, 0.5) == pytest.approx(calibration.mean(5.0, 0.5), rel=0.01)
    assert reach(copy) == pytest.approx(reach(calibration), abs=0.05)
    copy.restart()
    assert len(copy.recent()) == 0
    assert reach(copy) == reach(Calibration())
