"""The online predictor request by request, beside offline models that were given the same rows."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.sharing import Describes
from llmservice_sidecar.adapters.predictors.shipped.base import Description
from llmservice_sidecar.adapters.predictors.shipped.features import HASHED
from llmservice_sidecar.core.rank_correlation import rank_correlation
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.pretrain import query_for

SERVICE: Final = "service"  # all requests name this model, whichever answered
REPLICAS: Final = 4
MIN_LEAF: Final = 10
RIDGE: Final = 1.5

Numbers = npt.NDArray[np.float64]


class Described:
    """A `Describes` that describes each prompt once, however often it is asked about."""

    def __init__(self, base: Describes) -> None:
        self._base = base
        self._known: dict[str, Description] = {}

    def describe(self, query: PredictionQuery) -> Description:
        """What the base says of this prompt, now or before."""
        found = self._known.get(query.text)
        if found is None:
            found = self._known[query.text] = self._base.describe(query)
        return found


@dataclass(frozen=True, slots=True)
class Score:
    """How predictions of some requests fit: Kendall's tau-b, shares below the quantiles, bias."""

    tau: float
    p50: float
    p90: float
    mean_ratio: float  # sum of predicted over sum of actual tokens


def ask(sample: Sample) -> PredictionQuery:
    """The query that a service would make of a request."""
    return query_for(sample.prompt, model=SERVICE)


def predict(predictor: OnlinePredictor, rows: Sequence[Sample]) -> list[Prediction]:
    """Predictions with what it knows now."""
    return [predictor.predict(ask(row)) for row in rows]


def teach(predictor: OnlinePredictor, rows: Sequence[Sample]) -> list[Prediction]:
    """Each request in turn: predicted, then learned. The predictions."""
    said: list[Prediction] = []
    for row in rows:
        said.append(predictor.predict(ask(row)))
        predictor.observe(ask(row), output_tokens=row.output_tokens, censored=False)
    return said


def merged_replicas(base: Describes, rows: Sequence[Sample]) -> OnlinePredictor:
    """One of `REPLICAS` that share the requests and tell each other what they learned."""
    replicas = [OnlinePredictor(base) for _ in range(REPLICAS)]
    for position, replica in enumerate(replicas):
        teach(replica, rows[position::REPLICAS])
    first, *others = replicas
    for other in others:
        first.merge(other.own_statistics())
    return first


def score(said: Sequence[Prediction], rows: Sequence[Sample]) -> Score:
    """How predictions fit the answers."""
    actual = np.array([float(max(row.output_tokens, 1)) for row in rows])
    mean = [prediction.output_tokens for prediction in said]
    median = np.array([prediction.p50_tokens or prediction.output_tokens for prediction in said])
    upper = np.array([prediction.p90_tokens for prediction in said])
    return Score(
        tau=rank_correlation(mean, actual.tolist()).tau,
        p50=float((actual <= median).mean()),
        p90=float((actual <= upper).mean()),
        mean_ratio=float(sum(mean) / actual.sum()),
    )


def offline_taus(
    base: Describes, learned: Sequence[Sample], unseen: Sequence[Sample], *, seed: int
) -> dict[str, float]:
    """Tau-b on `unseen` of models fitted once to `learned`, from the same descriptions."""
    actual = [float(row.output_tokens) for row in unseen]
    target = np.array([math.log(max(row.output_tokens, 1)) for row in learned])
    x, bags = _inputs(base, learned)
    at, at_bags = _inputs(base, unseen)
    trees = _boosted(x, target, at, seed=seed)
    ridge: Numbers = (
        importlib.import_module("sklearn.linear_model")
        .Ridge(alpha=RIDGE, solver="sparse_cg", tol=1e-3)
        .fit(bags, target)
        .predict(at_bags)
    )
    return {
        "lightgbm": rank_correlation(trees.tolist(), actual).tau,
        "lightgbm + n-gram ridge": rank_correlation((trees + ridge).tolist(), actual).tau,
    }


def _inputs(base: Describes, rows: Sequence[Sample]) -> tuple[Numbers, Any]:
    seen = [base.describe(ask(row)) for row in rows]
    dense = np.array([np.append(one.dense, one.log_tokens) for one in seen])
    starts = np.cumsum([0, *(len(one.bins) for one in seen)])
    values = np.concatenate([one.values for one in seen])
    bins = np.concatenate([one.bins for one in seen])
    shape = (len(rows), HASHED)
    bags = importlib.import_module("scipy.sparse").csr_matrix((values, bins, starts), shape=shape)
    return dense, bags


def _boosted(x: Numbers, target: Numbers, at: Numbers, *, seed: int) -> Numbers:
    few = len(target) <= 500
    lightgbm = importlib.import_module("lightgbm")
    parameters = {
        "objective": "l2",
        "num_leaves": 7 if few else 15,
        "learning_rate": 0.05,
        "feature_fraction": 0.3,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "min_data_in_leaf": MIN_LEAF // 2 if few else MIN_LEAF,
        "num_threads": 1,
        "deterministic": True,
        "seed": seed,
        "verbose": -1,
    }
    model = lightgbm.train(parameters, lightgbm.Dataset(x, target), 100 if few else 300)
    return np.asarray(model.predict(at), dtype=np.float64)


def cost_us(base: Describes, rows: Sequence[Sample]) -> dict[str, float]:
    """Microseconds of CPU to estimate and to learn, without describing the prompt (median, p99)."""
    predictor = OnlinePredictor(base)
    head = predictor.head("0" * 16)
    spent: dict[str, list[float]] = {"estimate": [], "learn": []}
    for row in rows:
        description = base.describe(ask(row))
        started = time.thread_time()
        head.estimate(description)
        between = time.thread_time()
        head.learn(description, log_tokens=math.log(max(row.output_tokens, 1)), censored=False)
        spent["estimate"].append(between - started)
        spent["learn"].append(time.thread_time() - between)
    return {
        f"{name} p{level}": float(np.percentile(seconds, level)) * 1e6
        for name, seconds in spent.items()
        for level in (50, 99)
    }
