"""How alike are two prompts? Character 4-grams: a copy with another word or number is found."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

GRAM: Final = 4
BINS: Final = 8192  # collisions only add likeness, so a bound that holds here holds without them

FloatMatrix = npt.NDArray[np.float32]


def nearest_similarity(queries: Sequence[str], pool: Sequence[str]) -> npt.NDArray[np.float32]:
    """Per query the largest TF-IDF cosine (0..1) to any text of the pool; 0 without a pool."""
    if not queries or not pool:
        return np.zeros(len(queries), dtype=np.float32)
    counts = np.stack([gram_counts(text) for text in (*queries, *pool)])
    present = (counts > 0).sum(axis=0)
    idf = np.log((1.0 + len(counts)) / (1.0 + present)) + 1.0
    weighted = (counts * idf).astype(np.float32)
    norms = np.linalg.norm(weighted, axis=1, keepdims=True)
    unit = weighted / np.maximum(norms, np.float32(1e-9))
    return (unit[: len(queries)] @ unit[len(queries) :].T).max(axis=1)


def gram_counts(text: str) -> FloatMatrix:
    """Hashed counts of character 4-grams; case and runs of white space do not matter."""
    plain = " ".join(text.lower().split()).encode()
    grams = Counter(plain[i : i + GRAM] for i in range(max(1, len(plain) - GRAM + 1)))
    vector = np.zeros(BINS, dtype=np.float32)
    for gram, count in grams.items():
        vector[zlib.crc32(gram) % BINS] += count
    return vector
