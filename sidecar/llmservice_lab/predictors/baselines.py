"""Predictors that a good one has to beat: constant, prompt length, bag of words, embedding.

Fitted to the rows of split train; choices and the spread of what they say come from val.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from llmservice_sidecar.core.request import UNPREDICTED_TOKENS, Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.embedding_trees import EmbeddingTrees, fit_trees
from llmservice_lab.predictors.figures import Vector
from llmservice_lab.predictors.store import default_folder
from llmservice_lab.predictors.targets import Target, prompt_targets
from llmservice_lab.predictors.teacher import Teacher
from llmservice_lab.pretrain import query_for

LEAST_SLOPE: Final = 1e-3  # of prompt length: a falling line would be another predictor
ALPHAS: Final = (0.3, 1.0, 3.0, 10.0)
PLAIN_ALPHA: Final = 1.0  # where there is no val to choose by
# Words, and each Chinese or Japanese character by itself.
_TOKEN: Final = r"(?u)[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+"  # noqa: S105


class Score(Protocol):
    """ln(output tokens) of each prompt, up to a constant."""

    def __call__(self, queries: Sequence[PredictionQuery]) -> Vector: ...


@dataclass(frozen=True, slots=True)
class Spread:
    """ln of mean, p50 and p90 of what answers had, over exp(score)."""

    mean: float = 0.0
    p50: float = 0.0
    p90: float = math.log(2.0)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A score of the prompt with one spread for all prompts and models."""

    name: str
    score: Score
    spread: Spread

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        """Mean, p50 and p90 of each."""
        return [self._prediction(log) for log in self.score(queries).tolist()]

    def served(self) -> Baseline:
        """As it would be served: with nothing kept of the prompts that it was fitted to."""
        return replace(self, score=_served(self.score))

    def _prediction(self, log: float) -> Prediction:
        mean, p50, p90 = (
            math.exp(log + each) for each in (self.spread.mean, self.spread.p50, self.spread.p90)
        )
        return Prediction(mean, max(mean, p90), self.name, p50_tokens=p50)


def fit_baseline(name: str, train: Sequence[Sample], val: Sequence[Sample]) -> Baseline:
    """A baseline by its name. Raises ValueError: what is known, or that it needs training rows.

    Without training rows `constant` says 512 tokens and `prompt-length` as many as the prompt has.
    """
    if name not in BASELINES:
        raise ValueError(f"baseline {name!r} is not known; known: {', '.join(BASELINES)}")
    score = BASELINES[name](train, val)
    return Baseline(name, score, _spread(score, val or train))


def _served(score: Score) -> Score:
    match score:
        case EmbeddingTrees():
            return replace(score, encoder=Teacher())
        case Mean():
            return Mean(_served(score.first), _served(score.second))
        case _:
            return score


@dataclass(frozen=True, slots=True)
class Level:
    """The same for all."""

    log: float

    def __call__(self, queries: Sequence[PredictionQuery]) -> Vector:
        return np.full(len(queries), self.log)


@dataclass(frozen=True, slots=True)
class PromptLength:
    """A line through ln(prompt tokens + 1)."""

    level: float
    slope: float

    def __call__(self, queries: Sequence[PredictionQuery]) -> Vector:
        tokens = [float(max(query.prompt_tokens, 0)) for query in queries]
        return self.level + self.slope * np.log1p(tokens)


@dataclass(frozen=True, slots=True)
class Words:
    """Ridge regression on TF-IDF of words and pairs of words."""

    pipeline: Any  # scikit-learn ships no types

    def __call__(self, queries: Sequence[PredictionQuery]) -> Vector:
        return np.asarray(self.pipeline.predict([query.text for query in queries]))


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of two scores."""

    first: Score
    second: Score

    def __call__(self, queries: Sequence[PredictionQuery]) -> Vector:
        return (self.first(queries) + self.second(queries)) / 2


def _constant(train: Sequence[Sample], val: Sequence[Sample]) -> Level:  # noqa: ARG001 - registry
    return Level(float(_answer_logs(train).mean()) if train else math.log(UNPREDICTED_TOKENS))


def _prompt_length(train: Sequence[Sample], val: Sequence[Sample]) -> PromptLength:  # noqa: ARG001
    if not train:
        return PromptLength(level=0.0, slope=1.0)
    targets = _learned(train)
    known = PromptLength(0.0, 1.0)(_queries(targets))
    logs, weights = _logs(targets), _weights(targets)
    slope = max(float(np.polyfit(known, logs, 1, w=np.sqrt(weights))[0]), LEAST_SLOPE)
    return PromptLength(float(np.mean(logs - slope * known)), slope)


def _words(train: Sequence[Sample], val: Sequence[Sample]) -> Words:
    text: Any = importlib.import_module("sklearn.feature_extraction.text")
    pipeline: Any = importlib.import_module("sklearn.pipeline")
    targets = _learned(train)
    vectors = text.TfidfVectorizer(
        token_pattern=_TOKEN, ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32
    )
    matrix = vectors.fit_transform([target.prompt for target in targets])
    fitted = {
        alpha: Words(pipeline.make_pipeline(vectors, _ridge(matrix, targets, alpha=alpha)))
        for alpha in ALPHAS
    }
    if not val:
        return fitted[PLAIN_ALPHA]
    unseen = prompt_targets(val)
    return min(fitted.values(), key=lambda words: _loss(words, unseen))


def _ridge(matrix: Any, targets: Sequence[Target], *, alpha: float) -> Any:
    linear: Any = importlib.import_module("sklearn.linear_model")
    return linear.Ridge(alpha=alpha).fit(matrix, _logs(targets), sample_weight=_weights(targets))


def _embedding(train: Sequence[Sample], val: Sequence[Sample]) -> EmbeddingTrees:
    encoder = Teacher(default_folder())  # embedding a table takes minutes: vectors are kept
    return fit_trees(_learned(train), prompt_targets(val), encoder=encoder)


def _blend(train: Sequence[Sample], val: Sequence[Sample]) -> Mean:
    return Mean(_words(train, val), _embedding(train, val))


def _learned(train: Sequence[Sample]) -> list[Target]:
    if not train:
        raise ValueError("no answers to learn from: the table has no rows with split train")
    return prompt_targets(train)


def _loss(score: Score, targets: Sequence[Target]) -> float:
    error = score(_queries(targets)) - _logs(targets)
    return float(np.average(error**2, weights=_weights(targets)))


def _queries(targets: Sequence[Target]) -> list[PredictionQuery]:
    return [query_for(target.prompt, model="") for target in targets]


def _logs(targets: Sequence[Target]) -> Vector:
    return np.array([target.log_tokens for target in targets])


def _weights(targets: Sequence[Target]) -> Vector:
    weights = np.array([target.weight for target in targets])
    return weights / weights.mean()


def _answer_logs(samples: Sequence[Sample]) -> Vector:
    return np.log([float(max(sample.output_tokens, 1)) for sample in samples])


def _spread(score: Score, samples: Sequence[Sample]) -> Spread:
    if not samples:
        return Spread()
    prompts = list(dict.fromkeys(sample.prompt for sample in samples))
    said = dict(
        zip(prompts, score([query_for(each, model="") for each in prompts]).tolist(), strict=True)
    )
    ratios = np.exp(_answer_logs(samples) - np.array([said[sample.prompt] for sample in samples]))
    p50, p90 = np.log(np.percentile(ratios, [50, 90])).tolist()
    return Spread(math.log(float(ratios.mean())), p50, p90)


BASELINES: Final[Mapping[str, Callable[[Sequence[Sample], Sequence[Sample]], Score]]] = {
    "constant": _constant,
    "prompt-length": _prompt_length,
    "tfidf-ridge": _words,
    "embedding-lightgbm": _embedding,
    "blend": _blend,
}
