"""The shipped model: what a prompt is like and how long its answer will be, for any model.

It is the start of every prediction; what a service's own requests teach is learned on top of its
descriptions, elsewhere. It never changes while the program runs.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.errors import ArtefactError
from llmservice_sidecar.adapters.predictors.learned.request_cues import CUES
from llmservice_sidecar.adapters.predictors.shipped import artefact, features
from llmservice_sidecar.adapters.predictors.shipped.artefact import Tensors
from llmservice_sidecar.adapters.predictors.shipped.embedding import PARTS, StaticEmbedding
from llmservice_sidecar.adapters.predictors.shipped.features import Indices, Vector
from llmservice_sidecar.adapters.predictors.shipped.trees import ARRAYS, Forest
from llmservice_sidecar.runtime.ports import PredictionQuery

FORMAT: Final = 2
ARTEFACT: Final = "default.safetensors"
DIMENSIONS: Final = 128  # of the embedding
HAND_MADE: Final = features.DENSE - 1  # without the constant
DENSE: Final = HAND_MADE + DIMENSIONS
SEEN: Final = HAND_MADE + PARTS * DIMENSIONS  # by this model; heads learn from `DENSE` of it
LARGEST_DENSE: Final = 4.0  # standard deviations
LOG_BOUNDS: Final = (0.0, 12.0)  # log tokens: 1 to 160,000
DEVIATION_BOUNDS: Final = (0.1, 3.0)  # of ln(tokens)


@dataclass(frozen=True, slots=True)
class Description:
    """A prompt in numbers, and what is known of its answer's length before any outcome.

    `dense`: hand-made features and embedding, `DENSE` entries of about zero mean and unit variance,
    no constant among them. `bins`, `values`: hashed word n-grams (`features.HASHED`) of about unit
    length. `log_tokens`, `log_deviation`: mean and standard deviation of ln(output tokens).
    `cues`: what the request says beside its prompt (`request_cues`); of it the shipped model knows
    nothing and leaves it zero.
    """

    dense: Vector
    bins: Indices
    values: Vector
    log_tokens: float
    log_deviation: float
    cues: Vector = field(default_factory=functools.partial(np.zeros, CUES))


class BaseModel:
    """Describes prompts; immutable and deterministic, so descriptions may be kept."""

    def __init__(self, tensors: Tensors) -> None:
        """Tensors as `load` finds them. Raises ArtefactError naming the one that does not fit."""
        try:
            vocabulary = tensors["vocabulary"].tobytes().decode().split("\n")
            self._embedding = StaticEmbedding(
                vocabulary, tensors["embedding.codes"], tensors["embedding.scales"]
            )
            self._trees = _forest(tensors, "trees")
            self._spread = _forest(tensors, "spread")
            self._mean = _vector(tensors, "dense.mean", SEEN)
            self._scale = _vector(tensors, "dense.scale", SEEN)
            self._linear = _vector(tensors, "dense.weights", SEEN)
            self._hashed = _vector(tensors, "hashed.weights", features.HASHED)
            self._bias = float(_vector(tensors, "bias", 1)[0])
        except KeyError as error:
            raise ArtefactError(f"lacks the tensor {error}") from error
        except ValueError as error:
            raise ArtefactError(str(error)) from error
        if self._embedding.dimensions != DIMENSIONS:
            raise ArtefactError(f"{self._embedding.dimensions} dimensions, expected {DIMENSIONS}")
        if self._scale.min() <= 0.0:
            raise ArtefactError("dense.scale must be positive")

    @classmethod
    def load(cls, path: Path) -> BaseModel:
        """The model in a file, or in the file `default.safetensors` of a directory.

        Raises OSError when it cannot be read and ArtefactError for anything but a model of this
        format and feature set.
        """
        file = path / ARTEFACT if path.is_dir() else path
        card, tensors = artefact.read(file)
        found = (card.get("format"), card.get("feature_set"))
        if found != (FORMAT, features.FEATURE_SET):
            raise ArtefactError(
                f"{file}: format {found[0]}, feature set {found[1]}; this version reads "
                f"{FORMAT}, {features.FEATURE_SET}: train it again"
            )
        return cls(tensors)

    def describe(self, query: PredictionQuery) -> Description:
        """The description of a query's prompt. Any text is fine; the cost has a bound."""
        found = features.extract(query)
        raw = np.concatenate((found.dense[1:], self._embedding.embed(query.text)))
        seen = np.clip((raw - self._mean) / self._scale, -LARGEST_DENSE, LARGEST_DENSE)
        guess = (
            self._bias
            + self._trees.predict(seen)
            + float(seen @ self._linear)
            + float(found.values @ self._hashed[found.bins])
        )
        low, high = LOG_BOUNDS
        log_tokens = max(low, min(guess, high))
        narrowest, widest = DEVIATION_BOUNDS
        deviation = math.exp(min(0.5 * self._spread.predict(seen), math.log(widest)))
        return Description(
            seen[:DENSE], found.bins, found.values, log_tokens, max(deviation, narrowest)
        )


@functools.cache
def default_base() -> BaseModel:
    """The model that comes with the program; one per process, for it never changes."""
    return BaseModel.load(Path(__file__).with_name(ARTEFACT))


def _forest(tensors: Tensors, prefix: str) -> Forest:
    return Forest({name: tensors[f"{prefix}.{name}"] for name in ARRAYS}, inputs=SEEN)


def _vector(tensors: Tensors, name: str, length: int) -> Vector:
    found = np.asarray(tensors[name], dtype=np.float64)
    if found.shape != (length,) or not np.isfinite(found).all():
        raise ValueError(f"{name}: shape {found.shape}, expected {length} finite numbers")
    return found
