"""A table of token vectors whose sum imitates a sentence encoder.

Start: the encoder's vector of each token alone, projected to the main directions of whole prompts
and weighted down for frequent tokens (smooth inverse frequency, Arora et al., ICLR 2017). Then the
rows and one projection for all of them are trained so that the sum points where the encoder points,
for whole prompts and for many short texts beside them.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from llmservice_sidecar.adapters.predictors.shipped.base import DIMENSIONS
from llmservice_sidecar.adapters.predictors.shipped.embedding import cut_for_embedding
from llmservice_sidecar.adapters.predictors.shipped.wordpiece import WordPiece

from llmservice_lab.predictors.teacher import Matrix

FREQUENCY_WEIGHT: Final = 1e-3  # a of a / (a + p)
EPOCHS: Final = 6  # then unseen prompts get worse
TABLES: Final = (
    3  # trained on the texts in different orders; their mean ranks unseen prompts better
)
BATCH: Final = 256
RATE: Final = 3e-3
ROWS_RATE: Final = 0.3  # of the rate: the rows start near where they belong
WARM_UP: Final = 0.1
DECAYS: Final = (0.9, 0.999)

Ids: TypeAlias = npt.NDArray[np.int64]


class Encoder(Protocol):
    """A sentence encoder to imitate: unit vectors of texts, and of every token alone."""

    @property
    def vocabulary(self) -> list[str]: ...

    def embed(self, texts: Sequence[str]) -> Matrix: ...

    def embed_tokens(self) -> Matrix: ...


@dataclass(frozen=True, slots=True)
class Lesson:
    """Texts and the encoder's vectors of them, one row each."""

    texts: Sequence[str]
    vectors: Matrix


@dataclass(frozen=True, slots=True)
class Table:
    """Row of token t: `codes[t] * scales[t]`, for the tokens of `vocabulary`."""

    vocabulary: list[str]
    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]


def distil(prompts: Lesson, spans: Lesson, *, teacher: Encoder, seed: int) -> Table:
    """A table trained so that it gives texts the directions of their vectors.

    `prompts` alone say which directions and tokens matter; `spans` are learned from beside them.
    The same lessons and seed give the same table.
    """
    vocabulary = teacher.vocabulary
    wordpiece = WordPiece(vocabulary)
    texts = [*prompts.texts, *spans.texts]
    bags = [wordpiece.ids(cut_for_embedding(text)) for text in texts]
    directions, centre = _main_directions(prompts.vectors)
    targets = (np.concatenate([prompts.vectors, spans.vectors]) - centre) @ directions
    alone = (teacher.embed_tokens() - centre) @ directions
    start = alone * _weights(bags[: len(prompts.texts)], len(vocabulary))[:, None]
    # All start from the same rows and want the same directions, so that their mean means something
    # ("model soups", Wortsman et al., ICML 2022).
    trained = [
        _train(
            start.astype(np.float32), bags, targets.astype(np.float32), seed=seed * TABLES + part
        )
        for part in range(TABLES)
    ]
    codes, scales = quantise(np.mean(trained, axis=0))
    return Table(vocabulary, codes, scales)


def quantise(rows: Matrix) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Eight bits per entry and one scale per row."""
    scales = np.maximum(np.abs(rows).max(axis=1), 1e-9) / 127.0
    return np.rint(rows / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def _main_directions(wholes: Matrix) -> tuple[Matrix, Matrix]:
    """The first principal axes as columns, and the mean."""
    centre = wholes.mean(axis=0)
    centred = (wholes - centre).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    first = vectors[:, np.argsort(-values, kind="stable")[:DIMENSIONS]]
    signs = np.sign(first[np.abs(first).argmax(axis=0), np.arange(DIMENSIONS)])
    return (first * signs).astype(np.float32), centre


def _weights(bags: Sequence[Ids], tokens: int) -> npt.NDArray[np.float64]:
    counts = Counter[int]()
    for bag in bags:
        counts.update(bag.tolist())
    total = max(sum(counts.values()), 1)
    shares = np.array([counts[token] / total for token in range(tokens)])
    return FREQUENCY_WEIGHT / (FREQUENCY_WEIGHT + shares)


class _Adam:
    """Adam (Kingma and Ba, ICLR 2015) on the rows of a matrix that a step touches."""

    def __init__(self, values: Matrix) -> None:
        self.values = values
        self._first = np.zeros_like(values)
        self._second = np.zeros_like(values)
        self._steps = 0

    def step(self, rows: Any, gradient: Matrix, *, rate: float) -> None:
        self._steps += 1
        first = self._first[rows] = DECAYS[0] * self._first[rows] + (1 - DECAYS[0]) * gradient
        second = DECAYS[1] * self._second[rows] + (1 - DECAYS[1]) * gradient**2
        self._second[rows] = second
        size = rate * math.sqrt(1 - DECAYS[1] ** self._steps) / (1 - DECAYS[0] ** self._steps)
        self.values[rows] -= (size * first / (np.sqrt(second) + 1e-8)).astype(np.float32)


def _train(start: Matrix, bags: Sequence[Ids], targets: Matrix, *, seed: int) -> Matrix:
    """Rows whose sums, turned, point where `targets` do: the mean cosine is driven up."""
    rng = np.random.default_rng(seed)
    counted = _counts(bags, len(start))
    wanted = targets / np.maximum(np.linalg.norm(targets, axis=1, keepdims=True), 1e-9)
    usable = np.flatnonzero([len(bag) > 0 for bag in bags])
    parts = len(usable) // BATCH + 1
    rows, turn = _Adam(start.copy()), _Adam(np.eye(DIMENSIONS, dtype=np.float32))
    orders = (np.array_split(rng.permutation(usable), parts) for _ in range(EPOCHS))
    for step, chosen in enumerate(chain.from_iterable(orders)):
        batch = counted[chosen]
        touched = np.unique(batch.indices)
        narrow = batch[:, touched]
        sums: Matrix = narrow @ rows.values[touched]
        slope = _slope(sums @ turn.values, wanted[chosen])
        rate = RATE * _schedule(step / (EPOCHS * parts))
        rows_slope: Matrix = narrow.T @ (slope @ turn.values.T)
        turn.step(slice(None), sums.T @ slope, rate=rate)
        rows.step(touched, rows_slope, rate=rate * ROWS_RATE)
    return rows.values @ turn.values


def _slope(said: Matrix, wanted: Matrix) -> Matrix:
    """Gradient of the mean of one minus the cosine; `wanted` has unit rows."""
    norms = np.maximum(np.linalg.norm(said, axis=1, keepdims=True), 1e-6)
    unit = said / norms
    cosine = (unit * wanted).sum(axis=1, keepdims=True)
    slope: Matrix = (cosine * unit - wanted) / norms / len(said)
    return slope


def _schedule(done: float) -> float:
    """Share of the full rate: a short rise, then half a cosine down to nothing."""
    return min(done / WARM_UP, 0.5 * (1.0 + math.cos(math.pi * done)))


def _counts(bags: Sequence[Ids], tokens: int) -> Any:
    """How often each text has each token: a sparse matrix, texts x tokens."""
    ends = np.cumsum([0, *map(len, bags)])
    ones = np.ones(int(ends[-1]), dtype=np.float32)
    counts = importlib.import_module("scipy.sparse").csr_matrix(
        (ones, np.concatenate(bags), ends), shape=(len(bags), tokens)
    )
    counts.sum_duplicates()
    return counts
