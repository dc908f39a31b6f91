"""Sentence embedding (MiniLM) and hand-made features into LightGBM: a strong, slow baseline."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from llmservice_sidecar.adapters.predictors.shipped.features import extract
from llmservice_sidecar.runtime.ports import PredictionQuery

from llmservice_lab.predictors.figures import Vector
from llmservice_lab.predictors.targets import Target
from llmservice_lab.predictors.teacher import Matrix
from llmservice_lab.pretrain import query_for

ROUNDS: Final = 600
PATIENCE: Final = 60  # rounds without progress on val
PARAMETERS: Final = {
    "objective": "regression",
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 30,
    "feature_fraction": 0.2,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "seed": 0,
    "num_threads": 1,
    "deterministic": True,
    "verbosity": -1,
}


class Encoder(Protocol):
    """Sentence embeddings: a row a text."""

    def embed(self, texts: Sequence[str]) -> Matrix: ...


@dataclass(frozen=True, slots=True)
class EmbeddingTrees:
    """LightGBM on the embedding of the prompt and its features."""

    booster: Any  # LightGBM ships no types
    encoder: Encoder

    def __call__(self, queries: Sequence[PredictionQuery]) -> Vector:
        inputs = _inputs(queries, self.encoder.embed([query.text for query in queries]))
        return np.asarray(self.booster.predict(inputs, num_threads=1))


def fit_trees(
    train: Sequence[Target], val: Sequence[Target], *, encoder: Encoder
) -> EmbeddingTrees:
    """Fit to prompt effects; `val`, if not empty, says when to stop."""
    lightgbm: Any = importlib.import_module("lightgbm")
    data = _dataset(lightgbm, train, encoder)
    if not val:
        return EmbeddingTrees(lightgbm.train(PARAMETERS, data, ROUNDS // 2), encoder)
    booster = lightgbm.train(
        PARAMETERS,
        data,
        ROUNDS,
        valid_sets=[_dataset(lightgbm, val, encoder)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return EmbeddingTrees(booster, encoder)


def _dataset(lightgbm: Any, targets: Sequence[Target], encoder: Encoder) -> Any:
    prompts = [target.prompt for target in targets]
    queries = [query_for(prompt, model="") for prompt in prompts]
    inputs = _inputs(queries, encoder.embed(prompts))
    logs = np.array([target.log_tokens for target in targets])
    weights = np.array([target.weight for target in targets])
    weights /= weights.mean()
    return lightgbm.Dataset(inputs, logs, weight=weights, free_raw_data=False)


def _inputs(queries: Sequence[PredictionQuery], embeddings: Matrix) -> Matrix:
    features = np.array([extract(query).dense for query in queries], dtype=np.float32)
    return np.concatenate([embeddings, features], axis=1)
