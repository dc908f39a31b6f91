"""Fits the default model's head: boosted trees, averaged with two ridge regressions.

All three see one prompt at a time: trees and one ridge its dense description, the other ridge its
hashed word n-grams. Their mean is one sum in the artefact.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from llmservice_sidecar.adapters.predictors.shipped import features
from llmservice_sidecar.adapters.predictors.shipped.base import LARGEST_DENSE
from llmservice_sidecar.adapters.predictors.shipped.embedding import StaticEmbedding

from llmservice_lab.predictors.targets import Target
from llmservice_lab.pretrain import query_for

Matrix: TypeAlias = npt.NDArray[np.float64]
Tensors: TypeAlias = dict[str, npt.NDArray[Any]]

FOLDS: Final = 3
LEAST_SQUARE: Final = 1e-3  # of a residual: its logarithm counts
SPREAD: Final = {  # boosting of the residuals' variance, on a log scale
    "objective": "gamma",
    "learning_rate": 0.05,
    "num_leaves": 8,
    "min_child_samples": 40,
}
SPREAD_TREES: Final = 120


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the head is fitted; chosen by cross-validation over groups of near-duplicates."""

    trees: int = 600
    leaves: int = 31
    rate: float = 0.04
    forests: int = 2  # of so many trees each, grown from different samples of the rows
    trees_share: float = 0.6  # of the mean; the ridge regressions share the rest
    hashed_share: float = 0.35
    dense_penalty: float = 300.0
    hashed_penalty: float = 3.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Inputs:
    """Prompts as matrices, one row each: what trees see before scaling, hashed n-grams."""

    dense: Matrix
    hashed: Any  # scipy.sparse.csr_matrix, rows x features.HASHED


def describe_all(prompts: Sequence[str], embedding: StaticEmbedding) -> Inputs:
    """What `BaseModel.describe` computes of each prompt before its head."""
    dense: list[npt.NDArray[np.float64]] = []
    bins: list[npt.NDArray[np.int64]] = []
    values: list[npt.NDArray[np.float64]] = []
    for prompt in prompts:
        found = features.extract(query_for(prompt, model=""))
        dense.append(np.concatenate((found.dense[1:], embedding.embed(prompt))))
        bins.append(found.bins)
        values.append(found.values)
    ends = np.cumsum([0, *map(len, bins)])
    sparse = importlib.import_module("scipy.sparse").csr_matrix(
        (np.concatenate(values), np.concatenate(bins), ends),
        shape=(len(prompts), features.HASHED),
    )
    return Inputs(np.array(dense), sparse)


def fit(inputs: Inputs, targets: Sequence[Target], recipe: Recipe) -> Tensors:
    """The head's tensors, one row of `inputs` per target; the same arguments give the same bits."""
    head = _fit_head(inputs, targets, recipe)
    squares = _squares(inputs, targets, recipe)
    weights = np.array([target.weight for target in targets])
    structures = _boost(
        _scaled(inputs.dense, head),
        squares,
        weights,
        trees=SPREAD_TREES,
        **SPREAD,
        seed=recipe.seed,
    )
    return head | flatten(structures, prefix="spread")


def predict(head: Tensors, inputs: Inputs) -> Matrix:
    """What `BaseModel.describe` answers as `log_tokens` before it is bounded, for every row."""
    dense = _scaled(inputs.dense, head)
    trees = _walk(head, dense)
    linear = dense @ head["dense.weights"] + inputs.hashed @ head["hashed.weights"]
    total: Matrix = head["bias"][0] + trees + linear
    return total


def _fit_head(inputs: Inputs, targets: Sequence[Target], recipe: Recipe) -> Tensors:
    values = np.array([target.log_tokens for target in targets])
    weights = np.array([target.weight for target in targets])
    weights /= weights.mean()
    head: Tensors = {
        "dense.mean": np.average(inputs.dense, axis=0, weights=weights),
        "dense.scale": np.maximum(inputs.dense.std(axis=0), 0.05),
    }
    dense = _scaled(inputs.dense, head)
    dense_share = 1.0 - recipe.trees_share - recipe.hashed_share
    weight, bias = _ridge(dense, values, weights, penalty=recipe.dense_penalty)
    hashed_weight, hashed_bias = _ridge(
        inputs.hashed, values, weights, penalty=recipe.hashed_penalty
    )
    head["dense.weights"] = weight * dense_share
    head["hashed.weights"] = (hashed_weight * recipe.hashed_share).astype(np.float32)
    head["bias"] = np.array([bias * dense_share + hashed_bias * recipe.hashed_share])
    structures = [
        tree
        for forest in range(recipe.forests)
        for tree in _boost(
            dense,
            values,
            weights,
            trees=recipe.trees,
            objective="regression",
            learning_rate=recipe.rate,
            num_leaves=recipe.leaves,
            min_child_samples=15,
            seed=recipe.seed * recipe.forests + forest,
        )
    ]
    grown = flatten(structures, prefix="trees")
    grown["trees.value"] *= np.float32(recipe.trees_share / recipe.forests)
    return head | grown


def _scaled(dense: Matrix, head: Tensors) -> Matrix:
    scaled: Matrix = (dense - head["dense.mean"]) / head["dense.scale"]
    return np.clip(scaled, -LARGEST_DENSE, LARGEST_DENSE)


def _ridge(rows: Any, values: Matrix, weights: Matrix, *, penalty: float) -> tuple[Matrix, float]:
    solver = "cholesky" if isinstance(rows, np.ndarray) else "sparse_cg"
    ridge = importlib.import_module("sklearn.linear_model").Ridge(
        alpha=penalty, solver=solver, tol=1e-6
    )
    ridge.fit(rows, values, sample_weight=weights)
    return np.asarray(ridge.coef_), float(ridge.intercept_)


def _boost(
    rows: Matrix, values: Matrix, weights: Matrix, *, trees: int, **parameters: Any
) -> list[dict[str, Any]]:
    """The trees of a boosted model as nested dictionaries, in order."""
    lightgbm = importlib.import_module("lightgbm")
    fixed = {
        "max_depth": 8,
        "feature_fraction": 0.3,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "max_bin": 63,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    data = lightgbm.Dataset(rows, values, weight=weights, params={"max_bin": 63})
    booster = lightgbm.train(fixed | parameters, data, trees)
    return [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]


def flatten(structures: Sequence[dict[str, Any]], *, prefix: str) -> Tensors:
    """Nested trees as `Forest` wants them: children after their parent, leaves their own child."""
    feature: list[int] = []
    threshold: list[float] = []
    children: list[list[int]] = []
    value: list[float] = []

    def add(node: dict[str, Any]) -> int:
        place = len(value)
        leaf = "leaf_value" in node
        feature.append(0 if leaf else int(node["split_feature"]))
        threshold.append(0.0 if leaf else float(node["threshold"]))
        value.append(float(node["leaf_value"]) if leaf else 0.0)
        children.append([place, place])
        if not leaf:
            children[place] = [add(node["left_child"]), add(node["right_child"])]
        return place

    roots = [add(structure) for structure in structures]
    return {
        f"{prefix}.feature": np.array(feature, dtype=np.int16),
        f"{prefix}.threshold": np.array(threshold, dtype=np.float32),
        f"{prefix}.children": np.array(children, dtype=np.int32),
        f"{prefix}.value": np.array(value, dtype=np.float32),
        f"{prefix}.root": np.array(roots, dtype=np.int32),
    }


def _walk(head: Tensors, dense: Matrix) -> Matrix:
    """The forest's sum for many rows at once."""
    node = np.tile(head["trees.root"].astype(np.int64), (len(dense), 1))
    row = np.arange(len(dense))[:, None]
    while True:
        right = dense[row, head["trees.feature"][node]] > head["trees.threshold"][node]
        after = head["trees.children"][node, right.astype(np.int64)]
        if (after == node).all():
            total: Matrix = head["trees.value"][node].sum(axis=1, dtype=np.float64)
            return total
        node = after.astype(np.int64)


def _squares(inputs: Inputs, targets: Sequence[Target], recipe: Recipe) -> Matrix:
    """Mean squared distance of each prompt's answers, ln(tokens), from what is said of it.

    From predictions for groups that were left out of the fit; an unknown model's offset is in it.
    """
    folds = np.array([hash_fold(target.group) for target in targets])
    said = np.zeros(len(targets))
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        learned = [targets[int(place)] for place in inside]
        head = _fit_head(_rows(inputs, inside), learned, recipe)
        said[outside] = predict(head, _rows(inputs, outside))
    values = np.array([target.log_tokens for target in targets])
    scatter = np.array([target.scatter for target in targets])
    return np.maximum((values - said) ** 2 + scatter, LEAST_SQUARE)


def hash_fold(group: str) -> int:
    """The fold of a group: the same in every run."""
    return sum(group.encode()) * 2_654_435_761 % 2**32 // (2**32 // FOLDS + 1)


def _rows(inputs: Inputs, places: npt.NDArray[np.int64]) -> Inputs:
    return Inputs(inputs.dense[places], inputs.hashed[places])
