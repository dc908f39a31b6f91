"""Prompts that are nearly the same, so that no split can tear them apart."""

from __future__ import annotations

import importlib
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

GRAM: Final = 4
BINS: Final = 2**18
READ_CHARS: Final = 4000
MIN_COSINE: Final = 0.8
BLOCK: Final = 1024  # prompts compared with all others at once


def near_duplicate_groups(prompts: Sequence[str]) -> list[int]:
    """Per prompt the index of the first prompt of its group.

    A group is connected by TF-IDF cosines above 0.8 of character 4-grams, whatever case and spaces.
    """
    leaders = list(range(len(prompts)))

    def leader(index: int) -> int:
        while leaders[index] != index:
            leaders[index] = leaders[leaders[index]]
            index = leaders[index]
        return index

    vectors = _vectors(prompts)
    for start in range(0, len(prompts), BLOCK):
        likeness = (vectors[start : start + BLOCK] @ vectors.T).tocoo()
        near = likeness.data > MIN_COSINE
        for row, column in zip(likeness.row[near] + start, likeness.col[near], strict=True):
            low, high = sorted((leader(int(row)), leader(int(column))))
            leaders[high] = low
    return [leader(index) for index in range(len(prompts))]


def _vectors(prompts: Sequence[str]) -> Any:
    """Unit TF-IDF vectors, a sparse row a prompt."""
    sparse: Any = importlib.import_module("scipy.sparse")  # it ships no types
    indices: list[int] = []
    counts: list[float] = []
    ends = [0]
    for prompt in prompts:
        plain = " ".join(prompt[:READ_CHARS].lower().split()).encode("utf-8", "replace")
        grams = Counter(
            zlib.crc32(plain[i : i + GRAM]) % BINS for i in range(max(1, len(plain) - GRAM + 1))
        )
        indices += grams.keys()
        counts += grams.values()
        ends.append(len(indices))
    columns = np.array(indices, dtype=np.int64)
    present = np.bincount(columns, minlength=BINS)
    idf = np.log((1.0 + len(prompts)) / (1.0 + present)) + 1.0
    data = np.array(counts) * idf[columns]
    rows = np.repeat(np.arange(len(prompts)), np.diff(ends))
    norms = np.sqrt(np.bincount(rows, weights=data**2, minlength=len(prompts)))
    data /= norms[rows]
    return sparse.csr_matrix((data, columns, ends), shape=(len(prompts), BINS))
