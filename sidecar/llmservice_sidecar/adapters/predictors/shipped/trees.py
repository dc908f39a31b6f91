"""Regression trees as arrays: all trees of a forest go down one level at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from llmservice_sidecar.adapters.predictors.shipped.features import Vector

MAX_DEPTH: Final = 32
ARRAYS: Final = ("feature", "threshold", "children", "value", "root")


class Forest:
    """A sum of trees. Node k sends x left to `children[k, 0]` if x[feature[k]] <= threshold[k].

    A leaf is its own child, so trees of different depth can be walked together.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]], *, inputs: int) -> None:
        """Arrays by the names of `ARRAYS`; `inputs` is the length of x.

        Raises ValueError when shapes do not fit, an index points nowhere, a value is not finite or
        a path does not end.
        """
        self._feature = np.asarray(arrays["feature"], dtype=np.int64)
        self._threshold = np.asarray(arrays["threshold"], dtype=np.float64)
        self._value = np.asarray(arrays["value"], dtype=np.float64)
        self._root = np.asarray(arrays["root"], dtype=np.int64)
        children = np.asarray(arrays["children"], dtype=np.int64)
        nodes = len(self._value)
        fits = (
            self._feature.shape == self._threshold.shape == self._value.shape == (nodes,)
            and children.shape == (nodes, 2)
            and self._root.ndim == 1
        )
        if not fits or not _within(self._feature, inputs) or not _within(children, nodes):
            raise ValueError(f"trees of {nodes} nodes whose arrays do not fit {inputs} inputs")
        finite = np.isfinite(self._value).all() and np.isfinite(self._threshold).all()
        if not _within(self._root, nodes) or not finite:
            raise ValueError(f"trees of {nodes} nodes with a root or a number that is none")
        self._children = children.reshape(-1)
        self.depth = self._walk_depth(children)

    def predict(self, x: Vector) -> float:
        """The sum of the leaves that x falls into."""
        node = self._root
        for _ in range(self.depth):
            right = x[self._feature[node]] > self._threshold[node]
            node = self._children[2 * node + right]
        return float(self._value[node].sum())

    def _walk_depth(self, children: npt.NDArray[np.int64]) -> int:
        """Steps until every path has reached a leaf. Raises ValueError for a path without end."""
        leaf = (children == np.arange(len(children))[:, None]).all(axis=1)
        frontier = np.unique(self._root)
        for depth in range(MAX_DEPTH + 1):
            frontier = np.unique(children[frontier[~leaf[frontier]]])
            if frontier.size == 0:
                return depth
        raise ValueError(f"a tree is deeper than {MAX_DEPTH} or runs in a circle")


def _within(indices: npt.NDArray[np.int64], count: int) -> bool:
    return bool(((indices >= 0) & (indices < count)).all())
