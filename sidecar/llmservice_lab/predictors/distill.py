"""A table of token vectors whose sum imitates a sentence encoder.

Start: the encoder's vector of each token alone, projected to the main directions of whole prompts
and weighted down for frequent tokens (smooth inverse frequency, Arora et al., ICLR 2017). Then the
rows and one projection for all of them are trained so that the sum points where the encoder points.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llmservice_sidecar.adapters.predictors.base import DIMENSIONS
from llmservice_sidecar.adapters.predictors.embedding import cut_for_embedding
from llmservice_sidecar.adapters.predictors.wordpiece import WordPiece

from llmservice_lab.predictors.teacher import Matrix, Teacher

FREQUENCY_WEIGHT: Final = 1e-3  # a of a / (a + p)
EPOCHS: Final = 12
BATCH: Final = 256
RATE: Final = 3e-3


@dataclass(frozen=True, slots=True)
class Table:
    """Row of token t: `codes[t] * scales[t]`, for the tokens of `vocabulary`."""

    vocabulary: list[str]
    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]


def distil(texts: Sequence[str], teacher: Teacher, *, seed: int) -> Table:
    """A table trained on `texts`; the same texts and seed give the same table."""
    vocabulary = teacher.vocabulary
    wordpiece = WordPiece(vocabulary)
    bags = [wordpiece.ids(cut_for_embedding(text)) for text in texts]
    wholes = teacher.embed(texts)
    directions, centre = _main_directions(wholes)
    targets = (wholes - centre) @ directions
    alone = (teacher.embed_tokens() - centre) @ directions
    start = alone * _weights(bags, len(vocabulary))[:, None]
    trained = _train(start.astype(np.float32), bags, targets.astype(np.float32), seed=seed)
    codes, scales = quantise(trained)
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
    first = vectors[:, np.argsort(-values)[:DIMENSIONS]]
    signs = np.sign(first[np.abs(first).argmax(axis=0), np.arange(DIMENSIONS)])
    return (first * signs).astype(np.float32), centre


def _weights(bags: Sequence[npt.NDArray[np.int64]], tokens: int) -> npt.NDArray[np.float64]:
    counts = Counter[int]()
    for bag in bags:
        counts.update(bag.tolist())
    total = max(sum(counts.values()), 1)
    shares = np.array([counts[token] / total for token in range(tokens)])
    return FREQUENCY_WEIGHT / (FREQUENCY_WEIGHT + shares)


def _train(
    start: Matrix, bags: Sequence[npt.NDArray[np.int64]], targets: Matrix, *, seed: int
) -> Matrix:
    torch = importlib.import_module("torch")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
    rng = np.random.default_rng(seed)
    rows = torch.nn.Parameter(torch.from_numpy(start))
    turn = torch.nn.Parameter(torch.eye(DIMENSIONS))
    optimiser = torch.optim.Adam(
        [{"params": [rows], "lr": RATE * 0.3}, {"params": [turn], "lr": RATE}]
    )
    usable = [place for place, bag in enumerate(bags) if len(bag)]
    steps = EPOCHS * (len(usable) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=[RATE * 0.3, RATE], total_steps=steps
    )
    for _ in range(EPOCHS):
        order = rng.permutation(usable)
        for part in np.array_split(order, len(usable) // BATCH + 1):
            chosen = [bags[int(place)] for place in part]
            loss = _loss(torch, rows, turn, chosen, targets[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    trained: Matrix = (rows @ turn).detach().numpy()
    return trained


def _loss(
    torch: Any, rows: Any, turn: Any, bags: Sequence[npt.NDArray[np.int64]], targets: Matrix
) -> Any:
    """One minus the cosine between the sum of the tokens' rows and the encoder's vector."""
    flat = torch.from_numpy(np.concatenate(bags))
    offsets = torch.from_numpy(np.cumsum([0, *map(len, bags[:-1])]))
    sums = torch.nn.functional.embedding_bag(flat, rows, offsets, mode="sum") @ turn
    cosine = torch.nn.functional.cosine_similarity(sums, torch.from_numpy(targets))
    return (1.0 - cosine).mean()
