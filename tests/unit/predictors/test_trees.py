"""Forests: the right leaf for every row, and no array that would send a walk astray."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from llmservice_sidecar.adapters.predictors.shipped.trees import Forest


def arrays(**changed: Any) -> dict[str, Any]:
    """Two trees over two inputs: a stump on x[0], and a single leaf of value 10."""
    plain = {
        "feature": np.array([0, 0, 0, 0]),
        "threshold": np.array([1.5, 0.0, 0.0, 0.0]),
        "children": np.array([[1, 2], [1, 1], [2, 2], [3, 3]]),
        "value": np.array([0.0, -1.0, 1.0, 10.0]),
        "root": np.array([0, 3]),
    }
    return plain | changed


@pytest.mark.parametrize(("x", "expected"), [(1.0, 9.0), (1.5, 9.0), (1.6, 11.0)])
def test_a_row_gets_the_sum_of_its_leaves(x: float, expected: float) -> None:
    assert Forest(arrays(), inputs=2).predict(np.array([x, 7.0])) == expected


def test_depth_counts_the_longest_path() -> None:
    assert Forest(arrays(), inputs=2).depth == 1
    assert Forest(arrays(root=np.array([3])), inputs=2).depth == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"feature": np.array([2, 0, 0, 0])},
        {"feature": np.array([-1, 0, 0, 0])},
        {"children": np.array([[1, 4], [1, 1], [2, 2], [3, 3]])},
        {"children": np.array([1, 2, 3, 3])},
        {"children": np.array([[1, 2], [0, 0], [2, 2], [3, 3]])},
        {"threshold": np.array([1.5])},
        {"threshold": np.array([np.nan, 0.0, 0.0, 0.0])},
        {"value": np.array([0.0, np.nan, 1.0, 10.0])},
        {"root": np.array([4])},
        {"root": np.array([[0]])},
    ],
    ids=[
        "input that is none",
        "negative input",
        "child that is none",
        "flat children",
        "circle",
        "too few thresholds",
        "threshold not finite",
        "value not finite",
        "root that is none",
        "roots in two dimensions",
    ],
)
def test_arrays_that_make_no_forest_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"tree"):
        Forest(arrays(**changed), inputs=2)
