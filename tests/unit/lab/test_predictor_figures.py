"""Figures of predictors against sums done by hand, ceilings, and the level of a model."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from llmservice_lab.predictors.ceiling import another_sample, other_models
from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.figures import coverage, mae, pairwise_accuracy, tau_b
from llmservice_lab.predictors.judging import Said, latency_of, means_of, rows_of, tau_errors
from llmservice_lab.predictors.levels import levelled


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)


def sample(prompt: str, tokens: int, *, model: str = "m", source: str = "s") -> Sample:
    return Sample(source, prompt, prompt, prompt, 5, model, tokens, "test")


def said_of(mean: np.ndarray, *, p50: np.ndarray | None = None) -> Said:
    nothing = np.full(len(mean), math.nan)
    return Said(mean, nothing if p50 is None else p50, 2 * mean, nothing)


@pytest.mark.parametrize(
    ("predicted", "actual", "tau"),
    [
        pytest.param((1, 2, 3), (10, 20, 30), 1.0, id="the same order is 1"),
        pytest.param((3, 2, 1), (10, 20, 30), -1.0, id="the opposite order is -1"),
        pytest.param((1, 1, 1), (10, 20, 30), None, id="equal predictions have no rank"),
        pytest.param((1,), (10,), None, id="one answer has no rank"),
        pytest.param((1, 1, 2), (10, 20, 30), 2 / math.sqrt(6), id="ties count as in tau-b"),
    ],
)
def test_tau(predicted: tuple[float, ...], actual: tuple[float, ...], tau: float | None) -> None:
    found = tau_b(values(*predicted), values(*actual))
    assert found is None if tau is None else found == pytest.approx(tau)


def test_pairwise_accuracy_counts_pairs_that_differ_enough_and_ties_half() -> None:
    predicted, actual = values(1, 2, 2, 0), values(100, 110, 250, 500)
    # Twofold: 100-250 right, 100-500 wrong, 110-250 tied, 110-500 wrong, 250-500 wrong.
    assert pairwise_accuracy(predicted, actual, ratio=2.0) == pytest.approx(1.5 / 5)
    assert pairwise_accuracy(values(1, 2), values(100, 110), ratio=1.2) is None


def test_pairwise_accuracy_agrees_with_counting_every_pair() -> None:
    rng = random.Random(3)
    actual = [rng.randrange(0, 400) for _ in range(80)]
    predicted = [float(rng.randrange(0, 40)) for _ in actual]
    right, pairs = 0.0, 0
    for short, shorter in enumerate(actual):
        for long, longer in enumerate(actual):
            if short != long and longer > shorter and longer >= 1.2 * max(shorter, 1):
                pairs += 1
                right += (predicted[long] > predicted[short]) + 0.5 * (
                    predicted[long] == predicted[short]
                )
    found = pairwise_accuracy(values(*predicted), values(*actual), ratio=1.2)
    assert found == pytest.approx(right / pairs)


def test_error_and_coverage() -> None:
    assert mae(values(10, 20), values(13, 19)) == 2.0
    assert coverage(values(10, 20, 30), values(10, 21, 5)) == pytest.approx(2 / 3)
    assert coverage(None, values(1)) is None
    assert mae(values(), values()) is None


def test_latency_leaves_out_what_was_not_asked() -> None:
    assert latency_of(values(1.0, math.nan, 3.0))["p50"] == 2.0
    assert latency_of(values(math.nan)) == {"p50": None, "p99": None}


def test_a_row_for_each_source_and_model_and_a_mean_in_which_models_count_alike() -> None:
    samples = [sample(str(n), 10 * n, model="a") for n in range(1, 9)]
    samples += [sample(str(n), 90 - 10 * n, model="b") for n in range(1, 4)]
    samples += [sample("x", 5, source="other")]
    said = said_of(np.array([float(int(each.prompt, 36)) for each in samples]))
    rows = rows_of("p", samples, said)
    assert [(row["source"], row["model"], row["n"]) for row in rows] == [
        ("other", "m", 1),
        ("s", "a", 8),
        ("s", "b", 3),
    ]
    assert rows[0]["tau_b"] is None
    assert [row["tau_b"] for row in rows[1:]] == pytest.approx([1.0, -1.0])
    assert rows[1]["coverage_p50"] is None
    assert rows[1]["coverage_p90"] == 0.0
    other, mine = means_of("p", samples, said, rows)
    assert other["tau_b"] is None
    assert other["tau_b_error"] is None
    assert mine["tau_b"] == pytest.approx(0.0)
    assert (mine["models"], mine["n"]) == (2, 11)


def test_the_error_of_tau_falls_with_more_prompt_groups() -> None:
    rng = np.random.default_rng(1)

    def error(prompts: int) -> float:
        samples = [sample(str(n), int(rng.integers(10, 500))) for n in range(prompts)]
        found = tau_errors(samples, rng.normal(size=prompts))["s"]
        assert found is not None
        return found

    assert error(40) == pytest.approx(0.11, abs=0.05)
    assert error(640) < 0.05


def test_answers_to_one_prompt_are_drawn_together() -> None:
    """A hundred copies of four prompts are no more evidence than four prompts."""
    samples = [sample(str(n % 4), 100 + n % 4) for n in range(400)]
    wrong = np.array([(0.0, 2.0, 1.0, 3.0)[n % 4] for n in range(400)])
    found = tau_errors(samples, wrong)["s"]
    assert found is not None
    assert found > 0.2


def test_another_sample_predicts_each_answer_by_a_different_one_of_its_model_and_prompt() -> None:
    samples = [sample("p", 10), sample("p", 20), sample("q", 30), sample("p", 40, model="n")]
    kept, said = another_sample(samples)
    assert [(each.output_tokens, mean) for each, mean in zip(kept, said.mean, strict=True)] == [
        (10, 20.0),
        (20, 10.0),
    ]


def test_a_few_duplicates_show_no_ceiling() -> None:
    samples = [sample("p", 10), sample("p", 20), *(sample(str(n), n) for n in range(9))]
    kept, said = another_sample(samples)
    assert (kept, len(said.mean)) == ([], 0)


def test_other_models_take_their_own_level_out() -> None:
    """The second writes ten times as much as the first, on the same prompts."""
    samples = [sample(str(n), n, model="a") for n in (1, 10, 100)]
    samples += [sample(str(n), 10 * n, model="b") for n in (1, 10, 100)]
    samples += [sample("alone", 7, model="a", source="other")]
    kept, said = other_models(samples)
    assert len(kept) == 6
    actual = [each.output_tokens for each in kept]
    assert said.mean.tolist() == pytest.approx(actual)


def test_levels_make_a_predictor_right_that_is_wrong_by_a_factor() -> None:
    known = [sample(str(n), 10 * n, model="a") for n in range(20, 80)]
    known += [sample(str(n), 3 * n, model="b") for n in range(20, 80)]
    said_known = said_of(np.array([float(each.prompt) for each in known]))
    unseen = [sample("50", 500, model="a"), sample("60", 180, model="b")]
    out = levelled(unseen, said_of(values(50, 60)), known=known, said_known=said_known)
    assert out.mean.tolist() == pytest.approx([500, 180], rel=0.02)
    assert out.p50.tolist() == pytest.approx([500, 180], rel=0.02)


def test_a_model_without_known_answers_gets_the_level_of_all() -> None:
    known = [sample(str(n), 10 * n) for n in range(20, 80)]
    said_known = said_of(np.array([float(each.prompt) for each in known]))
    unseen = [sample("50", 0, model="new")]
    out = levelled(unseen, said_of(values(50)), known=known, said_known=said_known)
    assert out.p90.tolist() == pytest.approx([500], rel=0.05)


def test_levels_give_quantiles_that_cover_what_they_say() -> None:
    rng = np.random.default_rng(2)

    def answers(count: int) -> tuple[list[Sample], Said]:
        scores = rng.normal(5, 1, count)
        tokens = np.exp(scores + 1.0 + rng.normal(0, 0.7, count))
        rows = [sample(str(n), round(each)) for n, each in enumerate(tokens)]
        return rows, said_of(np.exp(scores))

    (known, said_known), (unseen, said) = answers(2000), answers(2000)
    out = levelled(unseen, said, known=known, said_known=said_known)
    row = rows_of("p", unseen, out)[0]
    assert row["coverage_p50"] == pytest.approx(0.5, abs=0.03)
    assert row["coverage_p90"] == pytest.approx(0.9, abs=0.03)
