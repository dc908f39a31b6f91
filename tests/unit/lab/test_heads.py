"""Heads: what of a length a published predictor keeps."""

from __future__ import annotations

import math

import pytest
from llmservice_lab.heads import (
    Around,
    Remaining,
    Remembering,
    Spread,
    answer_tokens,
    five_classes,
    ltr_label,
    ltr_rank,
    margin_ties,
)
from llmservice_lab.retrieval import Retrieval, embedding
from llmservice_lab.sim_predictors import Constant, Fixed, oracle
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.admission.past_future import LengthHistory
from llmservice_sidecar.core.request import Prediction


def row(
    output_tokens: int, *, prompt: str | None = None, max_tokens: int | None = None
) -> WorkloadRequest:
    return WorkloadRequest(
        arrival_s=0.0,
        prompt=prompt,
        prompt_tokens=10,
        output_tokens=output_tokens,
        max_tokens=max_tokens,
    )


def said(tokens: float, p90: float | None = None) -> Prediction:
    return Prediction(tokens, tokens if p90 is None else p90, "test")


@pytest.mark.parametrize(
    ("tokens", "middle"),
    [
        pytest.param(1.0, 21.0, id="first class"),
        pytest.param(41.9, 21.0, id="its last"),
        pytest.param(42.0, 91.5, id="second"),
        pytest.param(200.0, 217.5, id="third"),
        pytest.param(400.0, 398.5, id="fourth"),
        pytest.param(9000.0, 754.5, id="fifth"),
        pytest.param(math.nan, 21.0, id="NaN"),
    ],
)
def test_five_classes_are_cut_where_published(tokens: float, middle: float) -> None:
    assert five_classes(said(tokens)).output_tokens == middle


@pytest.mark.parametrize(
    ("tokens", "label"),
    [(1, 819), (9, 819), (10, 818), (500, 769), (8192, 0), (100_000, 0)],
)
def test_ltr_label_is_the_published_one(tokens: float, label: int) -> None:
    assert ltr_label(tokens) == label


def test_ltr_ranks_in_steps_of_ten_tokens() -> None:
    lengths = [ltr_rank(said(tokens)).output_tokens for tokens in (31.0, 39.0, 40.0, 8500.0, 9e9)]
    assert lengths == [35.0, 35.0, 45.0, 8195.0, 8195.0]


def test_lengths_within_a_fifth_tie() -> None:
    grid = [1.2**step for step in (10.1, 10.9, 11.1)]
    first, second, third = (margin_ties(said(tokens)).output_tokens for tokens in grid)
    assert first == second < third
    assert margin_ties(said(0.0)).output_tokens == pytest.approx(1.2**0.5)


def test_spread_scales_along() -> None:
    changed = ltr_rank(said(100.0, 250.0))
    assert changed.p90_tokens / changed.output_tokens == pytest.approx(2.5)
    assert ltr_rank(said(0.0, 250.0)).p90_tokens == 5.0


def test_head_is_as_trusted_as_what_it_stands_around() -> None:
    assert Around(Constant()).starts_trusted
    assert not Around(Constant(starts_trusted=False), ltr_rank).starts_trusted


def test_spread_is_learned_from_errors() -> None:
    rows = [row(10 * (1 + index % 10)) for index in range(64)]
    head = Spread(Fixed([50.0] * 64, source="test"))
    assert head.predict(0, rows[0]) == said(50.0)
    for index, each in enumerate(rows):
        head.predict(index, each)
        head.observe(index, each)
    # The 58th of 64 ratios: 1.8.
    assert head.predict(0, rows[0]) == said(50.0, 90.0)


def test_spread_of_a_predictor_that_has_one_stays() -> None:
    class Wide(Constant):
        def predict(self, index: int, row: WorkloadRequest) -> Prediction:
            return said(50.0, 70.0)

    assert Spread(Wide()).predict(0, row(1)) == said(50.0, 70.0)


def test_what_is_left_is_learned_from_answers_that_were_longer() -> None:
    rows = [row(20 if index % 2 else 100) for index in range(64)]
    head = Remaining(Fixed([60.0] * 64, source="test"))
    for index, each in enumerate(rows):
        head.predict(index, each)
        head.observe(index, each)
    head.predict(0, rows[0])
    assert head.predict_remaining(0, rows[0], 0).output_tokens == 60.0
    assert head.predict_remaining(0, rows[0], 50).output_tokens == 50.0
    assert head.predict_remaining(0, rows[0], 50).p90_tokens == 50.0


def test_what_is_left_when_nothing_was_longer_is_at_least_a_token() -> None:
    head = Remaining(Fixed([60.0], source="test"))
    head.predict(0, row(100))
    assert head.predict_remaining(0, row(100), 50) == said(10.0)
    assert head.predict_remaining(0, row(100), 70) == said(1.0)


def test_oracle_knows_what_is_left() -> None:
    rows = [row(100 + index) for index in range(64)]
    head = Remaining(oracle(rows))
    for index, each in enumerate(rows):
        head.predict(index, each)
    for index, each in enumerate(rows[1:], 1):
        head.observe(index, each)
    assert head.predict_remaining(0, rows[0], 30).output_tokens == 70.0


def test_history_is_taught_what_the_engine_returned() -> None:
    history = LengthHistory()
    head = Remembering(Constant(), history)
    head.observe(0, row(500, max_tokens=80))
    assert history.quantile(0.5) == 80.0
    assert answer_tokens(row(500)) == 500


LIKE = "please write a function that sorts a list of numbers in place"
ALSO_LIKE = "please write a function that sorts a list of words in place"
OTHER = "what is the capital of France?"


def test_prompts_like_an_old_one_get_its_length() -> None:
    head = Retrieval(Constant())
    for index, (prompt, length) in enumerate(((LIKE, 300), (OTHER, 9))):
        head.predict(index, row(length, prompt=prompt))
        head.observe(index, row(length, prompt=prompt))
    found = head.predict(2, row(1, prompt=ALSO_LIKE))
    assert (round(found.output_tokens), found.source) == (300, "retrieval")


@pytest.mark.parametrize(
    "prompt", [pytest.param(None, id="no text"), pytest.param("@@@@", id="nothing like it")]
)
def test_without_a_neighbour_the_other_predictor_speaks(prompt: str | None) -> None:
    head = Retrieval(Constant())
    head.predict(0, row(300, prompt=LIKE))
    head.observe(0, row(300, prompt=LIKE))
    assert head.predict(1, row(1, prompt=prompt)) == Constant().predict(1, row(1))
    head.observe(1, row(1, prompt=prompt))


def test_embeddings_are_unit_vectors_near_for_near_texts() -> None:
    like, also, other = embedding(LIKE), embedding(ALSO_LIKE), embedding(OTHER)
    assert float(like @ like) == pytest.approx(1.0, abs=1e-5)
    assert float(like @ also) > 0.7
    assert float(like @ other) < 0.4
