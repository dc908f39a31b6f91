"""The online predictor: it starts useful, learns, stays within bounds, follows a changing world."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from pathlib import Path
from typing import Never

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_lab.predictors.online_trials import Described
from llmservice_lab.pretrain import query_for
from llmservice_lab.workload import WorkloadRequest, load_workload
from llmservice_sidecar.adapters.predictors.learned.head import Head
from llmservice_sidecar.adapters.predictors.learned.online import (
    MAX_HEADS,
    OnlinePredictor,
    head_key,
)
from llmservice_sidecar.adapters.predictors.shipped.base import default_base
from llmservice_sidecar.core.rank_correlation import rank_correlation
from llmservice_sidecar.runtime.ports import PredictionQuery

BASE = Described(default_base())  # each prompt once in all tests
WORKLOADS = Path(__file__).parents[3] / "examples" / "workloads"


@pytest.fixture(scope="module")
def train() -> list[WorkloadRequest]:
    return list(load_workload(WORKLOADS / "demo-train.jsonl"))


@pytest.fixture(scope="module")
def test_part() -> list[WorkloadRequest]:
    return list(load_workload(WORKLOADS / "demo-test.jsonl"))


def teach(predictor: OnlinePredictor, rows: list[WorkloadRequest]) -> OnlinePredictor:
    for row in rows:
        predictor.observe(ask(row), output_tokens=row.output_tokens, censored=False)
    return predictor


def ask(row: WorkloadRequest, model: str = "tiny") -> PredictionQuery:
    return query_for(row.prompt or "", model=model)


def tau(predictor: OnlinePredictor, rows: list[WorkloadRequest]) -> float:
    predicted = [predictor.predict(ask(row)).output_tokens for row in rows]
    return rank_correlation(predicted, [float(row.output_tokens) for row in rows]).tau


def test_before_any_outcome_it_says_what_the_shipped_model_says() -> None:
    query = query_for("Write a long story about the sea.", model="tiny")
    described = BASE.describe(query)
    prediction = OnlinePredictor(BASE).predict(query)
    assert prediction.p50_tokens == pytest.approx(math.exp(described.log_tokens), rel=0.15)
    reach = math.exp(described.log_tokens + 1.25 * described.log_deviation)
    assert prediction.p90_tokens == pytest.approx(reach, rel=0.1)


def test_its_ranks_are_never_worse_than_the_shipped_models(
    train: list[WorkloadRequest], test_part: list[WorkloadRequest]
) -> None:
    predictor = OnlinePredictor(BASE)
    taus = [tau(predictor, test_part)]
    for start, end in ((0, 50), (50, 400), (400, len(train))):
        teach(predictor, train[start:end])
        taus.append(tau(predictor, test_part))
    # The shipped model was trained on such prompts: learning cannot add much to its ranks here.
    assert min(taus[1:]) > taus[0] - 0.02
    assert taus[3] > 0.55


def test_its_mean_and_quantiles_are_calibrated_on_unseen_prompts(
    test_part: list[WorkloadRequest],
) -> None:
    # Prompts that the shipped model has not met either: errors on known ones would be too small.
    rows = random.Random(5).sample(test_part, len(test_part))
    predictor = teach(OnlinePredictor(BASE), rows[:300])
    unseen = rows[300:]
    predictions = [predictor.predict(ask(row)) for row in unseen]
    actual = [row.output_tokens for row in unseen]
    total = sum(prediction.output_tokens for prediction in predictions)
    assert 0.8 <= total / sum(actual) <= 1.25
    pairs = list(zip(actual, predictions, strict=True))
    assert sum(a <= p.p90_tokens for a, p in pairs) / len(pairs) == pytest.approx(0.9, abs=0.06)
    halves = sum(a <= (p.p50_tokens or 0.0) for a, p in pairs) / len(pairs)
    assert halves == pytest.approx(0.5, abs=0.1)


def test_it_learns_ranks_that_the_shipped_model_does_not_know() -> None:
    predictor = OnlinePredictor(BASE)
    rng = random.Random(9)
    words = ["amber", "birch", "cedar", "delta", "ember"]

    def request() -> tuple[PredictionQuery, int]:
        place = rng.randrange(len(words))
        text = f"Report {words[place]} for case {rng.randrange(10_000)}"
        return query_for(text, model="tiny"), round(math.exp(3.0 + place + rng.gauss(0.0, 0.3)))

    for _ in range(200):
        query, tokens = request()
        predictor.observe(query, output_tokens=tokens, censored=False)
    unseen = [request() for _ in range(100)]
    predicted = [predictor.predict(query).output_tokens for query, _ in unseen]
    assert rank_correlation(predicted, [float(tokens) for _, tokens in unseen]).tau > 0.75


def test_it_follows_when_the_traffic_turns_around(train: list[WorkloadRequest]) -> None:
    predictor = teach(OnlinePredictor(BASE), train)
    probe = train[-200:]
    for row in train[:500]:  # a new model behind the same door: long where it was short
        predictor.observe(ask(row), output_tokens=20_000 // row.output_tokens, censored=False)
    assert tau(predictor, probe) < -0.4


def test_models_do_not_learn_each_others_lengths() -> None:
    predictor = OnlinePredictor(BASE)
    for number in range(60):
        for model, tokens in (("terse", 10), ("chatty", 1000)):
            query = query_for(f"Question {number}", model=model)
            predictor.observe(query, output_tokens=tokens, censored=False)
    said = {
        model: predictor.predict(query_for("Question", model=model)).output_tokens
        for model in ("terse", "chatty")
    }
    assert said["terse"] < 30
    assert said["chatty"] > 500


def test_a_further_model_starts_with_what_the_first_has_taught(
    train: list[WorkloadRequest], test_part: list[WorkloadRequest]
) -> None:
    taught = teach(OnlinePredictor(BASE), train)
    for row in train[:10]:
        taught.observe(ask(row, "adapter"), output_tokens=row.output_tokens, censored=False)
    predicted = [taught.predict(ask(row, "adapter")).output_tokens for row in test_part]
    actual = [float(row.output_tokens) for row in test_part]
    assert rank_correlation(predicted, actual).tau > tau(OnlinePredictor(BASE), test_part) - 0.02
    alone = OnlinePredictor(BASE)
    untaught = sum(alone.predict(ask(row)).output_tokens for row in test_part)
    assert abs(sum(predicted) - sum(actual)) < abs(untaught - sum(actual))


def test_heads_are_bounded_and_the_longest_unused_goes_first() -> None:
    predictor = OnlinePredictor(BASE)
    for number in range(MAX_HEADS + 1):
        query = query_for("Hello", model=f"adapter-{number}")
        predictor.observe(query, output_tokens=10, censored=False)
    assert len(predictor.heads) == MAX_HEADS
    assert head_key("adapter-0") not in predictor.heads


@given(
    text=st.text(st.characters(), max_size=200),
    max_tokens=st.none() | st.integers(min_value=-3, max_value=10**9),
    lengths=st.lists(st.integers(min_value=-5, max_value=10**12), max_size=40),
)
def test_predictions_stay_finite_and_within_bounds_whatever_it_learned(
    text: str, max_tokens: int | None, lengths: list[int]
) -> None:
    predictor = OnlinePredictor(BASE)
    query = PredictionQuery(
        text=text, prompt_tokens=-1, endpoint="chat", model="tiny", max_tokens=max_tokens
    )
    for position, length in enumerate(lengths):
        predictor.observe(query, output_tokens=length, censored=position % 3 == 0)
    prediction = predictor.predict(query)
    limit = math.inf if max_tokens is None else max(max_tokens, 1)
    assert 1 <= prediction.output_tokens <= prediction.p90_tokens <= limit
    assert prediction.p50_tokens is not None
    assert 1 <= prediction.p50_tokens <= prediction.p90_tokens
    assert math.isfinite(prediction.p90_tokens)
    assert predictor.predict_batch([query, query]) == [prediction, prediction]


def test_how_much_was_learned_may_be_read_while_another_thread_learns() -> None:
    class Changing(OrderedDict[str, Head]):
        """Heads that another thread is changing: who goes through them, fails."""

        def values(self) -> Never:
            raise RuntimeError("OrderedDict mutated during iteration")

    model = OnlinePredictor(BASE)
    query = PredictionQuery(text="Why?", prompt_tokens=1, endpoint="chat", model="m")
    model.observe(query, output_tokens=5, censored=False)
    model.heads = Changing(model.heads)
    assert model.samples == 1
