"""Batches: as large as the deadline allows, in order, and one bad query costs only itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from llmservice_sidecar.adapters.predictors.batching import MAX_BATCH, BatchSize
from llmservice_sidecar.adapters.predictors.chain import ChainedPredictor, Origin
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

READY = Origin("Default", "Ready")


def query(text: str) -> PredictionQuery:
    return PredictionQuery(text=text, prompt_tokens=1, endpoint="chat", model="m")


class Lengths:
    """Says the length of the text; waits for `released` before its first batch; `poison` breaks."""

    def __init__(self, *, poison: str | None = None, forgets: bool = False) -> None:
        self.released = threading.Event()
        self.batches: list[int] = []
        self._poison = poison
        self._forgets = forgets

    @property
    def samples(self) -> int:
        return 0

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        self.released.wait(timeout=30)
        self.batches.append(len(queries))
        if any(each.text == self._poison for each in queries):
            raise RuntimeError("poison")
        said: list[Prediction | None] = [
            Prediction(float(len(each.text)), 100.0, "model", 1.0) for each in queries
        ]
        return said[:-1] if self._forgets and len(said) > 1 else said

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        raise AssertionError("nothing is taught here")


async def ask_together(model: Lengths, texts: Sequence[str]) -> tuple[list[float], int]:
    """Answers and failures. The clock stands still: every batch may be as large as any."""
    predictor = ChainedPredictor(
        model, origin=READY, timeout_s=10.0, learns=False, clock=lambda: 0.0
    )
    asked = [asyncio.create_task(predictor.predict(query(text))) for text in ("first", *texts)]
    await asyncio.sleep(0)  # all are waiting before the model moves
    model.released.set()
    answers = await asyncio.gather(*asked)
    await predictor.aclose()
    return [answer.output_tokens for answer in answers[1:]], predictor.failures


async def test_who_waits_together_is_asked_together_and_answered_in_order() -> None:
    model = Lengths()
    answers, failures = await ask_together(model, ["a" * n for n in range(1, 41)])
    assert answers == [float(n) for n in range(1, 41)]
    assert (model.batches, failures) == ([1, MAX_BATCH, 8], 0)


async def test_one_query_that_breaks_the_batch_costs_only_its_own_prediction() -> None:
    model = Lengths(poison="bad")
    answers, failures = await ask_together(model, ["aa", "bad", "aaaa"])
    assert (answers[0], answers[2]) == (2.0, 4.0)
    assert answers[1] == 512.0, "the prior"
    assert failures == 1


async def test_a_batch_with_an_answer_missing_is_asked_one_by_one() -> None:
    answers, failures = await ask_together(Lengths(forgets=True), ["aa", "aaa"])
    assert (answers, failures) == ([2.0, 3.0], 0)


@pytest.mark.parametrize(
    ("each_s", "queries"),
    [(0.00001, MAX_BATCH), (0.0005, 4), (0.0024, 1), (0.05, 1)],
    ids=["cheap", "half a millisecond", "just in time", "slower than the deadline"],
)
def test_a_batch_is_no_larger_than_what_fits_the_time(each_s: float, queries: int) -> None:
    size = BatchSize(within_s=0.0025)
    assert size.queries == 1, "nothing is known yet"
    size.took(each_s, queries=1)
    assert size.queries in (queries, queries + 1), "but for rounding"


def test_a_model_that_has_become_fast_gets_larger_batches_again() -> None:
    size = BatchSize(within_s=0.0025)
    size.took(0.1, queries=1)
    for _ in range(60):
        size.took(0.00001, queries=1)
    assert size.queries == MAX_BATCH


async def test_a_late_answer_still_comes_after_the_fallback() -> None:
    model = Lengths()
    predictor = ChainedPredictor(model, origin=READY, timeout_s=0.01, learns=False)
    heard: list[str] = []
    async for said in predictor.predictions(query("slow")):
        heard.append(said.source)
        model.released.set()
    assert heard == ["prior", "model"]
    assert predictor.timeouts == 1
    await predictor.aclose()


async def test_an_answer_in_time_comes_alone() -> None:
    model = Lengths()
    model.released.set()
    predictor = ChainedPredictor(model, origin=READY, timeout_s=10.0, learns=False)
    heard = [said.source async for said in predictor.predictions(query("quick"))]
    assert (heard, predictor.timeouts) == (["model"], 0)
    await predictor.aclose()


async def test_who_has_left_is_not_predicted_for() -> None:
    model = Lengths()
    predictor = ChainedPredictor(model, origin=READY, timeout_s=10.0, learns=False)
    first = asyncio.create_task(predictor.predict(query("first")))
    gone = asyncio.create_task(predictor.predict(query("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait({gone})
    model.released.set()
    await first
    await predictor.settled()
    assert model.batches == [1]
    await predictor.aclose()
