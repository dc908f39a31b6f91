"""Trust by model: the culprit alone loses its predictions, and gets them back when it is mended."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.core.trust import MAX_MODELS, Coverage, Sample, Trust

Says = Callable[[float, random.Random], float]

MEANS = {"long": 400.0, "short": 40.0}


def ranks(actual: float, rng: random.Random) -> float:
    return actual * math.exp(rng.gauss(0, 0.5))


def misleads(actual: float, rng: random.Random) -> float:
    return 1e4 / actual * rng.uniform(0.5, 2.0)


def trust(*, starts_trusted: bool = True) -> Trust:
    return Trust(min_samples=50, window=200, starts_trusted=starts_trusted)


def feed(subject: Trust, count: int, says: dict[str, Says]) -> None:
    """`count` answers of each model named, whose predictor says so."""
    rng = random.Random(count)
    for _ in range(count):
        for model, predictor in says.items():
            actual = MEANS.get(model, 100.0) * math.exp(rng.gauss(0, 0.8))
            said = predictor(actual, rng)
            subject.observe(
                Sample(model, Prediction(said, said, "model"), MEANS.get(model, 100.0), actual)
            )


def test_a_model_that_is_not_known_yet_is_believed() -> None:
    assert trust().in_model("anything")


def test_only_the_culprit_stands_by_its_running_mean() -> None:
    subject = trust()
    feed(subject, 200, {"long": ranks, "short": misleads})
    assert subject.in_model("long")
    assert not subject.in_model("short")
    assert subject.guard.closed, "the rest, with running means for the culprit, ranks well"


def test_a_mended_model_gets_its_predictions_back() -> None:
    subject = trust()
    feed(subject, 200, {"long": ranks, "short": misleads})
    feed(subject, 200, {"long": ranks, "short": ranks})
    assert subject.in_model("short")
    assert subject.guard.closed


def test_a_single_model_that_does_not_rank_is_the_whole_queues_matter() -> None:
    subject = trust()
    feed(subject, 200, {"long": misleads})
    assert subject.in_model("long")
    assert not subject.guard.closed
    feed(subject, 200, {"long": ranks})
    assert subject.guard.closed


def test_running_means_of_all_models_may_order_the_queue_where_they_rank() -> None:
    subject = trust()
    feed(subject, 300, {"long": misleads, "short": misleads})
    assert not subject.in_model("long")
    assert not subject.in_model("short")
    assert subject.guard.closed, "ten times longer on average: the means alone rank well"


def test_models_are_forgotten_rather_than_remembered_without_bound() -> None:
    subject = trust()
    for number in range(MAX_MODELS + 10):
        feed(subject, 1, {f"m{number}": ranks})
    known = [name for name, _ in subject.models()]
    assert len(known) == MAX_MODELS
    assert "m0" not in known
    assert known == sorted(known)


def test_coverage_is_the_share_of_answers_within_the_quantile() -> None:
    subject = trust()
    for actual in range(1, 101):
        said = Prediction(50.0, 90.0, "model", 50.0)
        subject.observe(Sample("m", said, 50.0, float(actual)))
    ((_, model),) = subject.models()
    assert model.p50.share == pytest.approx(0.5)
    assert model.p90.share == pytest.approx(0.9)


def test_a_quantile_that_is_unknown_or_cut_by_the_limit_is_not_counted() -> None:
    coverage = Coverage(min_samples=1, window=10)
    sample = Sample("m", Prediction(5.0, 10.0, "model"), 5.0, 7.0, max_tokens=10)
    coverage.observe(None, sample)
    coverage.observe(10.0, sample)
    assert coverage.share is None
    coverage.observe(5.0, sample)
    assert coverage.share == 0.0


def test_a_model_has_no_coverage_before_it_has_enough_answers_of_its_own() -> None:
    subject = trust()
    said = Prediction(50.0, 90.0, "model", 50.0)
    for _ in range(200):
        subject.observe(Sample("busy", said, 50.0, 40.0))
    for _ in range(49):
        subject.observe(Sample("rare", said, 50.0, 400.0))
    models = dict(subject.models())
    assert (models["busy"].p50.share, models["busy"].p90.share) == (1.0, 1.0)
    assert (models["rare"].p50.share, models["rare"].p90.share) == (None, None)
    subject.observe(Sample("rare", said, 50.0, 400.0))
    assert (models["rare"].p50.share, models["rare"].p90.share) == (0.0, 0.0)


def test_answers_that_are_not_counted_are_no_samples_of_the_coverage() -> None:
    coverage = Coverage(min_samples=3, window=10)
    sample = Sample("m", Prediction(5.0, 10.0, "model"), 5.0, 7.0, max_tokens=10)
    coverage.observe(9.0, sample)
    for quantile in (None, 10.0, 9.0):
        coverage.observe(quantile, sample)
    assert coverage.share is None
    coverage.observe(9.0, sample)
    assert coverage.share == 1.0


def test_coverage_forgets_what_has_left_the_window() -> None:
    coverage = Coverage(min_samples=4, window=4)
    sample = Sample("m", Prediction(5.0, 10.0, "model"), 5.0, 7.0)
    for _ in range(4):
        coverage.observe(1.0, sample)
    for _ in range(4):
        coverage.observe(9.0, sample)
    assert coverage.share == 1.0
