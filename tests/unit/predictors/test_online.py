"""The online predictor: it learns, stays within bounds, treats cut answers as such, is portable."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_lab.pretrain import query_for
from llmservice_lab.workload import WorkloadRequest, load_workload
from llmservice_sidecar.adapters.predictors import snapshot
from llmservice_sidecar.adapters.predictors.calibration import Calibration
from llmservice_sidecar.adapters.predictors.online import OnlinePredictor, expected_beyond
from llmservice_sidecar.adapters.predictors.regression import Estimate
from llmservice_sidecar.core.rank_correlation import rank_correlation
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

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


def ask(row: WorkloadRequest) -> PredictionQuery:
    return query_for(row.prompt or "", model="tiny")


def said(predictor: OnlinePredictor, query: PredictionQuery) -> Prediction:
    prediction = predictor.predict(query)
    assert prediction is not None
    return prediction


def tau(predictor: OnlinePredictor, rows: list[WorkloadRequest]) -> float:
    predicted = [said(predictor, ask(row)).output_tokens for row in rows]
    return rank_correlation(predicted, [float(row.output_tokens) for row in rows]).tau


def test_it_has_no_opinion_before_it_has_seen_anything() -> None:
    assert OnlinePredictor().predict(query_for("hello", model="tiny")) is None


def test_it_ranks_unseen_prompts_better_the_more_it_has_learned(
    train: list[WorkloadRequest], test_part: list[WorkloadRequest]
) -> None:
    predictor = OnlinePredictor()
    taus: list[float] = []
    for start, end in ((0, 50), (50, 400), (400, len(train))):
        teach(predictor, train[start:end])
        taus.append(tau(predictor, test_part))
    assert taus[0] < taus[2]
    assert taus[1] > 0.45
    assert taus[2] > 0.55
    by_length = [float(len(row.prompt or "")) for row in test_part]
    actual = [float(row.output_tokens) for row in test_part]
    assert taus[0] > rank_correlation(by_length, actual).tau


def test_its_mean_and_quantile_are_calibrated_on_unseen_prompts(
    train: list[WorkloadRequest], test_part: list[WorkloadRequest]
) -> None:
    predictor = teach(OnlinePredictor(), train)
    predictions = [said(predictor, ask(row)) for row in test_part]
    actual = [row.output_tokens for row in test_part]
    total = sum(prediction.output_tokens for prediction in predictions)
    assert 0.85 <= total / sum(actual) <= 1.15
    covered = [a <= p.p90_tokens for a, p in zip(actual, predictions, strict=True)]
    assert 0.83 <= sum(covered) / len(covered) <= 0.97


def test_it_follows_when_the_traffic_turns_around(train: list[WorkloadRequest]) -> None:
    predictor = teach(OnlinePredictor(), train)
    probe = train[-200:]
    for row in train[:500]:  # a new model behind the same door: long where it was short
        predictor.observe(ask(row), output_tokens=20_000 // row.output_tokens, censored=False)
    assert tau(predictor, probe) < -0.4


@given(
    text=st.text(st.characters(), max_size=200),
    max_tokens=st.none() | st.integers(min_value=-3, max_value=10**9),
    lengths=st.lists(st.integers(min_value=-5, max_value=10**12), min_size=20, max_size=40),
)
def test_predictions_stay_finite_and_within_bounds_whatever_it_learned(
    text: str, max_tokens: int | None, lengths: list[int]
) -> None:
    predictor = OnlinePredictor()
    query = PredictionQuery(
        text=text, prompt_tokens=-1, endpoint="chat", model="tiny", max_tokens=max_tokens
    )
    for position, length in enumerate(lengths):
        predictor.observe(query, output_tokens=length, censored=position % 3 == 0)
    prediction = predictor.predict(query)
    if prediction is None:  # cut answers may have taught nothing
        assert predictor.samples < 16
        return
    limit = math.inf if max_tokens is None else max(max_tokens, 1)
    assert 1 <= prediction.output_tokens <= prediction.p90_tokens <= limit
    assert math.isfinite(prediction.p90_tokens)


def test_cut_answers_teach_that_answers_are_longer_not_that_they_are_short() -> None:
    query = query_for("Write a novel about the sea", model="tiny")
    honest, naive = OnlinePredictor(), OnlinePredictor()
    rng = random.Random(2)
    for _ in range(400):
        length = round(rng.lognormvariate(6.0, 0.6))
        cut = min(length, 300)
        honest.observe(query, output_tokens=cut, censored=length > 300)
        naive.observe(query, output_tokens=cut, censored=False)
    assert said(honest, query).output_tokens > 1.2 * said(naive, query).output_tokens


@pytest.mark.parametrize(
    ("log_cut", "at_least", "at_most"),
    [(5.0, 5.5, 6.0), (7.0, 7.0, 7.4), (40.0, 40.0, 40.0)],
    ids=["cut at the mean", "cut two deviations above", "cut beyond belief"],
)
def test_expectation_beyond_a_cut(log_cut: float, at_least: float, at_most: float) -> None:
    found = expected_beyond(Estimate(5.0, 1.0), log_cut)
    assert found is not None
    assert at_least <= found <= at_most


def test_an_early_cut_tells_nothing() -> None:
    assert expected_beyond(Estimate(5.0, 1.0), 2.0) is None


def test_the_calibrated_mean_never_falls_when_the_prediction_rises() -> None:
    calibration = Calibration()
    rng = random.Random(4)
    for _ in range(3000):
        predicted = rng.uniform(0, 8)
        # a spread that differs by size: the ratio of mean to median falls sharply at 4
        calibration.learn(predicted, predicted + rng.gauss(0, 1.5 if predicted < 4 else 0.1))
    means = [calibration.mean(step / 10) for step in range(-20, 200)]
    assert means == sorted(means)


def test_a_snapshot_predicts_and_learns_like_the_original(train: list[WorkloadRequest]) -> None:
    original = teach(OnlinePredictor(), train[:300])
    copy = snapshot.load(snapshot.save(original))
    assert copy.samples == original.samples
    for predictor in (original, copy):
        teach(predictor, train[300:400])
    for row in train[400:420]:
        assert copy.predict(ask(row)) == original.predict(ask(row))


def test_a_snapshot_is_small_and_holds_no_text(train: list[WorkloadRequest]) -> None:
    payload = snapshot.save(teach(OnlinePredictor(), train[:300]))
    assert len(payload) < 500_000
    assert (train[0].prompt or "")[:20].encode() not in payload


def broken(name: str, value: float) -> bytes:
    predictor = OnlinePredictor()
    owner = predictor.regression if name == "dense" else predictor.calibration
    array = getattr(owner, name)
    setattr(owner, name, np.full_like(array, value) if value else array[:-1])
    return snapshot.save(predictor)


@pytest.mark.parametrize(
    ("payload", "said_why"),
    [
        (b"", "not a readable snapshot"),
        (b"PK\x03\x04 nothing", "not a readable snapshot"),
        (b"x" * (snapshot.MAX_BYTES + 1), "at most"),
        (broken("dense", math.nan), "dense"),
        (broken("weight", 0.0), "weight"),
    ],
    ids=["empty", "cut zip", "too large", "not a number", "wrong shape"],
)
def test_what_is_no_snapshot_is_refused_by_name(payload: bytes, said_why: str) -> None:
    with pytest.raises(snapshot.SnapshotError, match=said_why):
        snapshot.load(payload)


def test_a_snapshot_of_other_features_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "FEATURE_SET", 999)
    payload = snapshot.save(OnlinePredictor())
    monkeypatch.undo()
    with pytest.raises(snapshot.SnapshotError, match="feature set 999"):
        snapshot.load(payload)
