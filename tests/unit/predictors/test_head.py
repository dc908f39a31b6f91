"""A head: cut answers, evidence that adds up, a world that changes, forgetting."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from llmservice_sidecar.adapters.predictors.learned.estimate import (
    Estimate,
    drawn_beyond,
    expected_beyond,
)
from llmservice_sidecar.adapters.predictors.learned.head import FORGET_EVERY, Head
from llmservice_sidecar.adapters.predictors.learned.regression import (
    DenseRegression,
    HashedRegression,
)
from llmservice_sidecar.adapters.predictors.shipped.base import DENSE, Description
from llmservice_sidecar.adapters.predictors.shipped.features import HASHED


def descriptions(count: int, seed: int = 1) -> list[Description]:
    rng = np.random.default_rng(seed)
    return [
        Description(
            dense=rng.normal(size=DENSE),
            bins=np.sort(rng.choice(HASHED, 20, replace=False)),
            values=rng.normal(size=20) / math.sqrt(20.0),
            log_tokens=float(rng.normal(5.0, 0.5)),
            log_deviation=0.8,
        )
        for _ in range(count)
    ]


def test_cut_answers_teach_that_answers_are_longer_not_that_they_are_short() -> None:
    honest, naive = Head(), Head()
    (description,) = descriptions(1)
    rng = random.Random(2)
    for _ in range(400):
        length = rng.gauss(6.0, 0.6)
        cut = min(length, math.log(300))
        honest.learn(description, log_tokens=cut, censored=length > cut)
        naive.learn(description, log_tokens=cut, censored=False)
    assert honest.estimate(description).mean > naive.estimate(description).mean + 0.2


@pytest.mark.parametrize(
    ("log_cut", "at_least", "at_most"),
    [(5.0, 5.5, 6.0), (7.0, 7.0, 7.4), (12.0, 12.0, 12.0), (40.0, 14.0, 14.0)],
    ids=["cut at the mean", "cut two deviations above", "cut beyond belief", "cut beyond bounds"],
)
def test_expectation_beyond_a_cut(log_cut: float, at_least: float, at_most: float) -> None:
    found = expected_beyond(Estimate(5.0, 1.0), log_cut)
    assert found is not None
    assert at_least <= found <= at_most
    for level in (0.0, 0.5, 0.999):
        assert drawn_beyond(Estimate(5.0, 1.0), log_cut, level=level) >= min(log_cut, 14.0) - 1e-9


def test_an_early_cut_tells_nothing() -> None:
    assert expected_beyond(Estimate(5.0, 1.0), 2.0) is None
    head = Head()
    (description,) = descriptions(1)
    head.learn(description, log_tokens=1.0, censored=True)
    assert head.samples == 0


def test_dense_evidence_of_two_halves_is_the_evidence_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    inputs, targets = rng.normal(size=(60, 5)), 0.3 * rng.normal(size=60)  # no outlier
    prior = np.zeros((5, 1)), np.full(5, 0.3)
    whole, halves = DenseRegression(*prior), [DenseRegression(*prior), DenseRegression(*prior)]
    for number, (x, y) in enumerate(zip(inputs, targets, strict=True)):
        for learner in (whole, halves[number % 2]):
            learner.learn(x, np.array([y]) - learner.predict(x))
    merged = DenseRegression(*prior)
    merged.believe(halves[0].evidence().plus(halves[1].evidence()))
    assert np.allclose(merged.weights, whole.weights)
    assert np.allclose(merged.covariance, whole.covariance)


def test_dense_weights_are_those_of_ridge_regression() -> None:
    rng = np.random.default_rng(5)
    inputs, targets = rng.normal(size=(80, 4)), 0.3 * rng.normal(size=80)  # no outlier
    learner = DenseRegression(np.zeros((4, 1)), np.full(4, 0.1))
    for x, y in zip(inputs, targets, strict=True):
        learner.learn(x, np.array([y]) - learner.predict(x))
    ridge = np.linalg.solve(inputs.T @ inputs + 5.0 * np.eye(4), inputs.T @ targets)
    assert np.allclose(learner.weights[:, 0], ridge)


def test_evidence_that_cannot_be_is_refused() -> None:
    dense = DenseRegression(np.zeros((3, 1)), np.ones(3))
    hashed = HashedRegression(np.zeros(3), np.ones(3))
    for regression in (dense, hashed):
        evidence = regression.evidence()
        evidence.precision[...] -= 5.0
        with pytest.raises(ValueError, match="not positive"):
            regression.believe(evidence)


def test_a_head_told_and_untold_predicts_as_before() -> None:
    head, peer = Head(), Head()
    seen = descriptions(80)
    for description in seen[:40]:
        head.learn(description, log_tokens=4.0, censored=False)
    for description in seen[40:]:
        peer.learn(description, log_tokens=7.0, censored=False)
    alone = head.estimate(seen[0])
    head.absorb({"peer": peer.packed()})
    told = head.estimate(seen[0])
    head.absorb({"peer": peer.packed()})  # in place of the same, not once more
    assert head.estimate(seen[0]).mean == pytest.approx(told.mean)
    assert told.mean > alone.mean + 0.2
    head.absorb({"peer": None})
    assert head.estimate(seen[0]).mean == pytest.approx(alone.mean)


def test_what_a_peer_told_is_not_passed_on_as_own() -> None:
    head, peer = Head(), Head()
    for description in descriptions(50):
        peer.learn(description, log_tokens=7.0, censored=False)
    head.absorb({"peer": peer.packed()})
    own = head.lesson()
    assert own.samples == 0
    assert len(own.errors) == 0
    assert np.abs(own.dense.precision).max() < 1e-6
    assert np.abs(own.hashed.precision).max() < 1e-6


def test_an_abrupt_change_is_noticed_and_relearned_at_once() -> None:
    head = Head()
    seen = descriptions(1000)
    rng = random.Random(4)
    for description in seen[:900]:
        head.learn(description, log_tokens=rng.gauss(4.0, 0.3), censored=False)
    assert head.since_restart == 900
    for description in seen[900:]:
        head.learn(description, log_tokens=rng.gauss(6.5, 0.3), censored=False)
    assert head.since_restart < 100
    assert head.estimate(seen[0]).mean == pytest.approx(6.5, abs=0.4)


def test_where_lengths_are_wild_a_wild_length_is_no_news() -> None:
    head = Head()
    (description,) = descriptions(1)
    rng = random.Random(11)
    for _ in range(3000):
        head.learn(description, log_tokens=rng.choice((0.0, 4.0, 5.0, 14.0)), censored=False)
    assert head.since_restart > 1000


def test_topics_that_come_in_runs_are_no_new_world_however_unequal_their_noise() -> None:
    head = Head()
    topics, rng = descriptions(40, seed=3), random.Random(5)
    levels = [rng.gauss(5.0, 1.0) for _ in topics]
    topic = 0
    for number in range(4000):
        if number % 200 == 0:
            topic = rng.randrange(40)
        here = topic if rng.random() < 0.8 else rng.randrange(40)
        noise = rng.gauss(0.0, 0.3 if topic % 4 else 1.5)
        head.learn(topics[here], log_tokens=max(levels[here] + noise, 0.0), censored=False)
    assert (head.since_restart, head.epoch) == (4000, 0)


@pytest.mark.parametrize("shift", [-1.5, 1.5])
def test_a_shift_of_all_lengths_is_noticed_within_some_dozen_outcomes(shift: float) -> None:
    head = Head()
    seen, rng = descriptions(40, seed=3), random.Random(5)
    for number in range(640):
        level = 5.0 if number < 600 else 5.0 + shift
        head.learn(seen[number % 40], log_tokens=rng.gauss(level, 0.4), censored=False)
    assert head.since_restart < 40


def test_old_evidence_fades() -> None:
    head = Head()
    rng = random.Random(6)
    seen = descriptions(50)
    for number in range(FORGET_EVERY - 1):
        head.learn(seen[number % 50], log_tokens=rng.gauss(5.0, 0.5), censored=False)
    before = head.lesson().hashed.precision[-1]
    head.learn(seen[0], log_tokens=5.0, censored=False)
    assert head.lesson().hashed.precision[-1] < before


def test_the_spread_narrows_once_the_models_level_is_known() -> None:
    head = Head()
    (description,) = descriptions(1)
    spreads = [head.estimate(description).deviation]
    for outcomes in (1, 3, 20):
        while head.samples < outcomes:
            off = 0.4 * (-1.0) ** head.samples  # an error of the usual size
            length = head.estimate(description).mean + off
            head.learn(description, log_tokens=length, censored=False)
        spreads.append(head.estimate(description).deviation)
    assert spreads[0] == pytest.approx(description.log_deviation)
    assert spreads == sorted(spreads, reverse=True)
    head.restart()  # another model behind the same name: its level is not known
    assert head.estimate(description).deviation > spreads[-1]


def test_a_head_of_a_new_model_starts_with_the_shape_of_errors_of_another() -> None:
    known, new = Head(), Head()
    rng = random.Random(13)
    for description in descriptions(300):
        length = description.log_tokens + rng.expovariate(1.0)
        known.learn(description, log_tokens=length, censored=False)
    new.start_like(known)
    assert np.array_equal(new.calibration.assumed, known.calibration.typical())
    assert len(new.calibration.recent()) == 0


def test_a_change_of_world_does_not_make_less_of_what_was_inherited() -> None:
    (description,) = descriptions(1)
    teacher, heir = Head(), Head()
    for _ in range(30):
        teacher.learn(description, log_tokens=3.0, censored=False)
    heir.told.inherited = {"teacher": teacher.packed()}
    heir.absorb(heir.told.inherited)
    heir.learn(description, log_tokens=3.0, censored=False)
    heir.restart()
    assert heir.experience == 31
    heir.restart()
    assert heir.experience == 31
