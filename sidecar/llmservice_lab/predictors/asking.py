"""Puts answered prompts to a predictor, as a door would: it never sees a length before it said one.

Two ways: as it stands (`ask`), and as in service, where it learns each answer after its own
prediction (`ask_online`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from time import process_time
from typing import Protocol, TypeAlias

import numpy as np
from llmservice_sidecar.core.request import UNPREDICTED_TOKENS, Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.judging import Said
from llmservice_lab.pretrain import query_for

OnStep: TypeAlias = Callable[[int, int], None]  # so many of all answers are done


class BatchPredictor(Protocol):
    """What an evaluation asks. None: it has no opinion."""

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]: ...


class Learner(BatchPredictor, Protocol):
    """One that learns from finished requests."""

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None: ...


def ask(
    predictor: BatchPredictor, samples: Sequence[Sample], *, by_model: bool, on_step: OnStep
) -> Said:
    """One prediction for each prompt (with `by_model` for each prompt and model), one at a time."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, sample in enumerate(samples):
        key = sample.prompt, sample.model if by_model else ""
        places.setdefault(key, []).append(place)
    said = _nothing_said(len(samples))
    done = 0
    for (prompt, model), mine in places.items():
        prediction, seconds = _timed(predictor, query_for(prompt, model=model))
        for place in mine:
            _note(said, place, prediction, seconds=seconds)
        done += len(mine)
        on_step(done, len(samples))
    return said


def ask_online(
    make: Callable[[], Learner], samples: Sequence[Sample], *, seed: int, on_step: OnStep
) -> Said:
    """For each model a predictor of its own that meets its answers in a seeded random order."""
    places: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault(sample.model, []).append(place)
    said = _nothing_said(len(samples))
    done = 0
    for model, mine in sorted(places.items()):
        predictor = make()
        random.Random(f"{seed}/{model}").shuffle(mine)  # noqa: S311 - an order, no secret
        for place in mine:
            query = query_for(samples[place].prompt, model=model)
            prediction, seconds = _timed(predictor, query)
            _note(said, place, prediction, seconds=seconds)
            actual = samples[place].output_tokens
            predictor.observe(query, output_tokens=actual, censored=False)
            done += 1
            on_step(done, len(samples))
    return said


def _timed(predictor: BatchPredictor, query: PredictionQuery) -> tuple[Prediction, float]:
    """Processor time, not the wall's: what one core needs, whatever else it does meanwhile."""
    started = process_time()
    prediction = predictor.predict_batch([query])[0]
    seconds = process_time() - started
    return prediction or Prediction(UNPREDICTED_TOKENS, UNPREDICTED_TOKENS, "prior"), seconds


def _nothing_said(count: int) -> Said:
    return Said(*(np.full(count, math.nan) for _ in range(4)))


def _note(said: Said, place: int, prediction: Prediction, *, seconds: float) -> None:
    said.mean[place] = prediction.output_tokens
    said.p50[place] = math.nan if prediction.p50_tokens is None else prediction.p50_tokens
    said.p90[place] = prediction.p90_tokens
    said.seconds[place] = seconds
