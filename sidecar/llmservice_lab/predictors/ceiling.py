"""How well any predictor could do: what the same or other models said to the same prompt. Pure.

A predictor sees the prompt alone; a model that is asked twice does not give two answers of one
length. Where a table has several answers of a model to a prompt, one is predicted by the others;
where it has several models, one by all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import numpy as np

from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.figures import Vector
from llmservice_lab.predictors.judging import Said, by_source_and_model

LEAST_SHARE: Final = 0.5  # of a model's answers in a source


def another_sample(samples: Sequence[Sample]) -> tuple[list[Sample], Said]:
    """Each answer predicted by another one of the same model to the same prompt, in a circle."""
    places: dict[tuple[str, str, str], list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault((sample.source, sample.model, sample.prompt), []).append(place)
    several = [mine for mine in places.values() if len(mine) > 1]
    before = {mine[at]: mine[at - 1] for mine in several for at in range(len(mine))}
    kept = _mostly(samples, before)
    said = np.array([float(samples[before[place]].output_tokens) for place in kept])
    return [samples[place] for place in kept], _said(said)


def other_models(samples: Sequence[Sample]) -> tuple[list[Sample], Said]:
    """Each answer predicted by the mean ln length of all other models' answers to its prompt.

    Each model's own level is taken out of its answers before, and that of the predicted one added.
    """
    logs = np.log([float(max(sample.output_tokens, 1)) for sample in samples])
    levels = np.zeros(len(samples))
    for index in by_source_and_model(samples).values():
        levels[index] = logs[index].mean()
    places: dict[tuple[str, str], list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault((sample.source, sample.prompt), []).append(place)
    said: dict[int, float] = {}
    for mine in places.values():
        for place in mine:
            others = [each for each in mine if samples[each].model != samples[place].model]
            if others:
                said[place] = float((logs[others] - levels[others]).mean() + levels[place])
    kept = _mostly(samples, said)
    return [samples[place] for place in kept], _said(np.exp([said[place] for place in kept]))


def _mostly(samples: Sequence[Sample], known: Collection[int]) -> list[int]:
    """Places that are known, of the models of which most are: a few duplicates show no ceiling."""
    kept: list[int] = []
    for index in by_source_and_model(samples).values():
        mine = [place for place in index.tolist() if place in known]
        if len(mine) >= LEAST_SHARE * len(index):
            kept += mine
    return kept


def _said(tokens: Vector) -> Said:
    nothing = np.full(len(tokens), math.nan)
    return Said(tokens, nothing, nothing, nothing)


CEILINGS: Final[Mapping[str, Callable[[Sequence[Sample]], tuple[list[Sample], Said]]]] = {
    "the same model again": another_sample,
    "mean of the other models": other_models,
}
