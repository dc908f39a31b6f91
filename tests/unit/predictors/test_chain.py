"""The chain around a model: deadline, fallback, and what happens when the model is broken."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Sequence

import pytest
from llmservice_lab.pretrain import query_for
from llmservice_sidecar.adapters.predictors.chain import (
    MAX_WAITING,
    ChainedPredictor,
    LengthModel,
    Origin,
)
from llmservice_sidecar.adapters.predictors.health import LATEST
from llmservice_sidecar.adapters.predictors.history import KEYS, History
from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

QUERY = PredictionQuery(text="Why?", prompt_tokens=1, endpoint="chat", model="tiny", max_tokens=100)
READY = Origin("Default", "Ready")


class Says:
    """A model with a fixed answer."""

    def __init__(self, tokens: float, *, p90: float = 50.0) -> None:
        self.answer = Prediction(tokens, p90, "model")
        self.lessons = 0

    @property
    def samples(self) -> int:
        return self.lessons

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        return [self.answer for _ in queries]

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        self.lessons += 1


class Raises(Says):
    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        raise RuntimeError("broken model")

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        raise RuntimeError("broken lesson")


class Stuck(Says):
    """Answers only once released."""

    def __init__(self) -> None:
        super().__init__(5.0)
        self.released = threading.Event()

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        self.released.wait(timeout=30)
        return super().predict_batch(queries)


def chain(
    model: LengthModel | None, *, timeout_s: float = 10.0, learns: bool = True
) -> ChainedPredictor:
    return ChainedPredictor(model, origin=READY, timeout_s=timeout_s, learns=learns)


async def test_the_models_answer_is_used_and_clipped_to_max_tokens() -> None:
    predictor = chain(Says(500.0, p90=900.0))
    assert await predictor.predict(QUERY) == Prediction(100.0, 100.0, "model")
    await predictor.aclose()


async def test_a_small_or_crossed_answer_is_put_in_order() -> None:
    predictor = chain(Says(0.2, p90=math.nan))
    assert await predictor.predict(QUERY) == Prediction(1.0, 1.0, "model")
    await predictor.aclose()


@pytest.mark.parametrize(
    "model",
    [Says(math.nan), Says(math.inf), Says(-5.0), Says(0.0), Raises(1.0)],
    ids=["NaN", "infinite", "negative", "zero", "raises"],
)
async def test_a_broken_model_gives_the_fallback_and_is_counted(
    model: LengthModel, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = chain(model)
    with caplog.at_level(logging.ERROR):
        predictions = [await predictor.predict(QUERY) for _ in range(20)]
    assert {prediction.source for prediction in predictions} == {"prior"}
    assert all(1 <= p.output_tokens <= p.p90_tokens <= 100 for p in predictions)
    assert predictor.failures == 20
    assert len(caplog.records) == 1
    assert predictor.state == "Failed"
    assert predictor.message.startswith("most predictions fail")
    await predictor.aclose()


class Quotes(Says):
    """An error text with the prompt in it, as third parties write them."""

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        raise RuntimeError(f"cannot read {queries[0].text!r}")


async def test_an_error_that_quotes_the_prompt_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    predictor = chain(Quotes(1.0))
    for _ in range(10):
        await predictor.predict(QUERY)
    assert "RuntimeError" in caplog.text
    assert "test_chain.py" in caplog.text, "the place is told"
    assert QUERY.text not in caplog.text + predictor.message
    await predictor.aclose()


async def test_a_model_that_recovers_is_ready_again() -> None:
    model = Says(math.nan)
    predictor = chain(model)
    for _ in range(10):
        await predictor.predict(QUERY)
    assert predictor.state == "Failed"
    model.answer = Prediction(5.0, 9.0, "model")
    for _ in range(LATEST):
        await predictor.predict(QUERY)
    assert (predictor.state, predictor.message) == ("Ready", "")
    await predictor.aclose()


async def test_lessons_that_fail_say_nothing_about_predictions() -> None:
    predictor = chain(Raises(1.0))
    for _ in range(20):
        predictor.observe(QUERY, output_tokens=10, censored=False)
    await predictor.settled()
    assert (predictor.failures, predictor.state) == (20, "Ready")
    await predictor.aclose()


async def test_a_model_that_fails_to_learn_still_predicts() -> None:
    predictor = chain(Raises(1.0))
    predictor.observe(QUERY, output_tokens=10, censored=False)
    await predictor.settled()
    assert predictor.failures == 1
    assert (await predictor.predict(QUERY)).source == "prior"
    await predictor.aclose()


async def test_a_stuck_model_delays_nobody_beyond_the_deadline() -> None:
    model = Stuck()
    predictor = chain(model, timeout_s=0.01)
    async with asyncio.timeout(5):  # 400 calls at a deadline of 10 ms, all at once
        predictions = await asyncio.gather(*(predictor.predict(QUERY) for _ in range(400)))
    assert {prediction.source for prediction in predictions} == {"prior"}
    assert 1 <= predictor.timeouts <= MAX_WAITING + 1, "beyond the bound nobody even waits"
    assert sum(predictor.fallbacks.values()) == 400
    assert predictor.fallbacks["late"] == predictor.timeouts
    assert predictor.state == "Ready", "late is not broken"
    assert "after timeoutMilliseconds (10)" in predictor.message
    model.released.set()
    await predictor.settled()
    patient = chain(Says(5.0))
    assert (await patient.predict(QUERY)).source == "model"
    await patient.aclose()
    await predictor.aclose()


async def test_history_speaks_once_there_is_some() -> None:
    predictor = chain(None)
    assert (await predictor.predict(QUERY)).source == "prior"
    assert predictor.fallbacks["no_model"] == 1
    for tokens in (10, 20, 30, 40):
        predictor.observe(QUERY, output_tokens=tokens, censored=False)
    prediction = await predictor.predict(QUERY)
    assert prediction.source == "history"
    assert prediction.output_tokens == pytest.approx(25.0)
    await predictor.aclose()


async def test_outcomes_are_learned_only_if_learning_is_on() -> None:
    for learns, lessons in ((True, 30), (False, 0)):
        model = Says(5.0)
        predictor = chain(model, learns=learns)
        for _ in range(30):
            predictor.observe(QUERY, output_tokens=10, censored=False)
        await predictor.settled()
        assert model.lessons == lessons
        await predictor.aclose()


async def test_a_closed_predictor_still_answers() -> None:
    predictor = chain(Says(5.0))
    await predictor.aclose()
    await predictor.aclose()
    predictor.observe(QUERY, output_tokens=10, censored=False)
    assert (await predictor.predict(QUERY)).source == "prior"


async def test_the_state_can_be_saved_while_it_serves() -> None:
    model = OnlinePredictor()
    predictor = chain(model)
    for _ in range(20):
        predictor.observe(QUERY, output_tokens=10, censored=False)
    await predictor.settled()
    payload = await predictor.run_in_thread(lambda: snapshot.save(model))
    assert snapshot.load(payload).samples == 20
    await predictor.aclose()


async def test_one_megabyte_is_predicted_like_any_other_prompt() -> None:
    model = OnlinePredictor()
    for tokens in range(20):
        model.observe(query_for("Why?", model="tiny"), output_tokens=tokens, censored=False)
    predictor = chain(model)
    for text in ("x" * 1_000_000, "a b " * 250_000, "\n" * 1_000_000, "(A) 5. " * 140_000):
        assert (await predictor.predict(query_for(text, model="tiny"))).source == "model"
    await predictor.aclose()


def test_history_forgets_names_rather_than_growing_without_bound() -> None:
    history = History()
    for number in range(KEYS + 50):
        query = query_for("q", model=f"m{number}")
        for _ in range(4):
            history.observe(query, output_tokens=9, censored=False)
    assert history.predict(query_for("q", model="m0")).source == "prior"
    assert history.predict(query_for("q", model=f"m{KEYS + 49}")).source == "history"


def test_history_learns_from_a_cut_answer_only_what_is_sure() -> None:
    history = History()
    for _ in range(4):
        history.observe(QUERY, output_tokens=50, censored=False)
    history.observe(QUERY, output_tokens=5, censored=True)
    assert history.predict(QUERY).output_tokens == pytest.approx(50.0)
    history.observe(QUERY, output_tokens=90, censored=True)
    assert history.predict(QUERY).output_tokens > 50.0
