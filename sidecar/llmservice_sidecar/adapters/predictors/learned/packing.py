"""Evidence in few bytes, so that any bytes give evidence that can be believed.

A precision is told as a factor and what the factor leaves of the diagonal: rounding, and cutting
columns, can never make it negative. Instead of the shift the weights are told that it leads to with
the common prior: then rounding of the precision moves nothing that is believed, only how surely.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llmservice_sidecar.adapters.predictors.learned.calibration import COLUMNS, LEVELS
from llmservice_sidecar.adapters.predictors.learned.lesson import (
    DENSE_START,
    HASHED_START,
    INPUTS,
    MIX,
    MIX_START,
    Lesson,
    Prior,
    check,
)
from llmservice_sidecar.adapters.predictors.learned.regression import Evidence
from llmservice_sidecar.adapters.predictors.shipped.features import HASHED, Vector

STEPS: Final = 127  # of a column's largest number in one byte
LEAST_LEFT: Final = 1e-3  # of a prior's precision: less in any direction is not told by columns
LEAST_PRECISION: Final = 1e-4  # many words that were met once tell much together
HALF: Final = 6e4  # the largest number in half precision, roughly
LARGEST_WEIGHT: Final = 100.0
MAX_SAMPLES: Final = 10**12
MAX_SCALE: Final = 1e6

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of a lesson is told; the rest counts as if it had not been learned so surely."""

    columns: int
    words: int
    errors: int

    def size(self, packed: Packed) -> int:
        """Bytes of a lesson's arrays in this detail."""
        columns = min(len(packed.scale), self.columns)
        words, errors = min(len(packed.bins), self.words), min(len(packed.errors), self.errors)
        left = packed.nbytes - packed.factor.nbytes - 4 * len(packed.scale)
        left -= 6 * (len(packed.bins) - words) + 2 * COLUMNS * (len(packed.errors) - errors)
        return left + columns * (INPUTS + 4) - columns * (columns - 1) // 2

    def holds(self, packed: Packed) -> bool:
        """Whether a lesson has no more than this."""
        return (
            len(packed.scale) <= self.columns
            and len(packed.bins) <= self.words
            and len(packed.errors) <= self.errors
        )


FULL: Final = Detail(columns=INPUTS, words=HASHED, errors=1024)
DETAILS: Final = (FULL, Detail(INPUTS, 4096, 256), Detail(64, 2048, 256), Detail(24, 1024, 128))


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A lesson as arrays of the types, by name, that `TYPES` lists."""

    count: Array  # outcomes, epoch
    errors: Array
    offsets: Array
    totals: Array
    order: Array  # of the inputs by which the factor's rows were chosen
    factor: Array  # its lower triangle, row by row, in `STEPS` of each column's scale
    scale: Array
    norm: Array  # roots of the diagonal: the factor is of correlations, and leaves what lacks to 1
    weights: Array
    bins: Array
    precision: Array
    words: Array  # the weights of `bins`
    bias: Array  # precision and weight
    mix_order: Array
    mix_factor: Array
    mix_scale: Array
    mix_norm: Array
    mix_weights: Array

    @property
    def samples(self) -> int:
        """Outcomes that it was learned from."""
        return int(self.count[0])

    @property
    def epoch(self) -> int:
        """Changes of the world before."""
        return int(self.count[1])

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(getattr(self, name).nbytes for name in TYPES)

    def same(self, other: Packed) -> bool:
        """Whether both say the same."""
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in TYPES)


TYPES: Final = {
    "count": np.int64, "errors": np.float16, "offsets": np.float64, "totals": np.float64,
    "order": np.uint16, "factor": np.int8, "scale": np.float32, "norm": np.float32,
    "weights": np.float32, "bins": np.uint16, "precision": np.float16, "words": np.float16,
    "bias": np.float64, "mix_order": np.uint16, "mix_factor": np.int8, "mix_scale": np.float32,
    "mix_norm": np.float32, "mix_weights": np.float64,
}  # fmt: skip
assert list(TYPES) == [field.name for field in fields(Packed)]


def pack(lesson: Lesson, detail: Detail = FULL) -> Packed:
    """The lesson in few bytes."""
    arrays = {
        "count": np.array([lesson.samples, lesson.epoch]),
        "errors": lesson.errors[-detail.errors :],
        "offsets": lesson.offsets,
        "totals": lesson.totals,
        **_packed_words(lesson.hashed, most=detail.words),
        **_packed(lesson.dense, DENSE_START, columns=detail.columns),
        **{f"mix_{n}": a for n, a in _packed(lesson.mix, MIX_START, columns=len(MIX)).items()},
    }
    return Packed(**{name: arrays[name].astype(kind) for name, kind in TYPES.items()})


def cut(packed: Packed, detail: Detail) -> Packed:
    """The lesson in no more than this detail."""
    if detail.holds(packed):
        return packed
    columns = min(detail.columns, len(packed.scale))
    return pack(unpack(packed), replace(detail, columns=columns))


def unpack(packed: Packed) -> Lesson:
    """The lesson. Raises ValueError for what no requests could have taught."""
    samples, epoch = packed.count.tolist()
    if not (0 <= samples <= MAX_SAMPLES and 0 <= epoch <= MAX_SAMPLES):
        raise ValueError(f"count {samples}, {epoch}; allowed: 0 to {MAX_SAMPLES}")
    _require(packed.errors, "errors", shape=(None, COLUMNS))
    if len(packed.errors) > FULL.errors:
        raise ValueError(f"errors: {len(packed.errors)}; at most {FULL.errors}")
    _require(packed.offsets, "offsets", shape=(len(LEVELS),))
    _require(packed.totals, "totals", shape=(2,))
    lesson = Lesson(
        samples=samples,
        epoch=epoch,
        dense=_unpacked(packed, "", DENSE_START),
        hashed=_unpacked_words(packed),
        mix=_unpacked(packed, "mix_", MIX_START),
        errors=packed.errors.astype(np.float64),
        offsets=packed.offsets,
        totals=packed.totals,
    )
    check(lesson)
    return lesson


def _packed(evidence: Evidence, prior: Prior, *, columns: int) -> dict[str, Array]:
    unit = np.sqrt(prior.variance)
    order, factor = _factor(evidence.precision * np.outer(unit, unit), columns=columns)
    norm = np.sqrt(np.maximum(np.diag(evidence.precision), 0.0))
    factor /= np.where(norm > 0.0, norm * unit, 1.0)[order][:, None]
    scale = np.abs(factor).max(axis=0, initial=0.0) / STEPS
    rounded = np.rint(factor / np.where(scale > 0.0, scale, 1.0))
    certain = np.diag(1.0 / prior.variance)
    shift = evidence.shift + certain @ prior.mean
    return {
        "order": order,
        "factor": rounded[_triangle(*factor.shape)],
        "scale": scale,
        "norm": norm,
        "weights": np.linalg.solve(evidence.precision + certain, shift),
    }


def _factor(wanted: Vector, *, columns: int) -> tuple[Array, Vector]:
    """Rows in an order, and F of that order with F F' nearly `wanted`: a Cholesky factor.

    The input of which most is left comes next, until little is left or there are `columns`.
    """
    size = len(wanted)
    left, order = np.diag(wanted).copy(), np.arange(size)
    factor = np.zeros((size, min(columns, size)))
    for column in range(factor.shape[1]):
        place = column + int(np.argmax(left[order[column:]]))
        order[[column, place]] = order[[place, column]]
        pivot, rest = order[column], order[column:]
        if left[pivot] <= LEAST_LEFT:
            factor = factor[:, :column]
            break
        known = factor[:, :column] @ factor[pivot, :column]
        factor[rest, column] = (wanted[rest, pivot] - known[rest]) / np.sqrt(left[pivot])
        left[rest] -= np.square(factor[rest, column])
    return order, factor[order]


def _unpacked(packed: Packed, prefix: str, prior: Prior) -> Evidence:
    order, factor, scale, norm, weights = (
        getattr(packed, prefix + name) for name in ("order", "factor", "scale", "norm", "weights")
    )
    size, columns = len(prior.variance), min(len(scale), len(prior.variance))
    triangle = _triangle(size, columns)
    _require(order, f"{prefix}order", shape=(size,))
    if (np.sort(order) != np.arange(size)).any():
        raise ValueError(f"{prefix}order: not every input once")
    _require(scale, f"{prefix}scale", shape=(columns,), least=0.0, most=1.0)
    _require(factor, f"{prefix}factor", shape=(int(triangle.sum()),), most=np.inf)
    _require(norm, f"{prefix}norm", shape=(size,), least=0.0, most=MAX_SCALE)
    _require(weights, f"{prefix}weights", shape=prior.mean.shape, most=LARGEST_WEIGHT)
    rounded = np.zeros((size, columns))
    rounded[triangle] = factor
    rows = np.empty_like(rounded)
    rows[order] = rounded * scale.astype(np.float64)
    related = rows @ rows.T
    related[np.diag_indices(size)] = np.maximum(np.diag(related), 1.0)
    precision = related * np.outer(norm, norm.astype(np.float64))
    shift = precision @ weights + (weights - prior.mean) / prior.variance[:, None]
    return Evidence(precision, shift)


def _packed_words(evidence: Evidence, *, most: int) -> dict[str, Array]:
    precision = np.maximum(evidence.precision, 0.0)
    weights = (evidence.shift + HASHED_START.mean / HASHED_START.variance) / (
        precision + 1.0 / HASHED_START.variance
    )
    bins = np.flatnonzero(precision[:-1] > LEAST_PRECISION)
    if len(bins) > most:
        bins = np.sort(bins[np.argsort(-precision[bins], kind="stable")[:most]])
    return {
        "bins": bins,
        "precision": np.minimum(precision[bins], HALF),
        "words": weights[bins],
        "bias": np.array([precision[-1], weights[-1]]),
    }


def _unpacked_words(packed: Packed) -> Evidence:
    bins = packed.bins.astype(np.int64)
    _require(packed.bins, "bins", shape=(None,), most=HASHED - 1)
    if (np.diff(bins) <= 0).any():
        raise ValueError("bins: not ascending")
    _require(packed.precision, "precision", shape=bins.shape, least=0.0, most=HALF)
    _require(packed.words, "words", shape=bins.shape, most=LARGEST_WEIGHT)
    _require(packed.bias, "bias", shape=(2,))
    places = np.append(bins, HASHED)
    precision, weights = np.zeros(HASHED + 1), HASHED_START.mean.copy()
    precision[places] = np.append(packed.precision.astype(np.float64), packed.bias[0])
    weights[places] = np.append(packed.words.astype(np.float64), packed.bias[1])
    known = precision + 1.0 / HASHED_START.variance
    return Evidence(precision, known * weights - HASHED_START.mean / HASHED_START.variance)


def _triangle(size: int, columns: int) -> npt.NDArray[np.bool_]:
    return np.tri(size, columns, dtype=np.bool_)


def _require(
    array: Array,
    name: str,
    *,
    shape: tuple[int | None, ...],
    least: float = -np.inf,
    most: float = np.inf,
) -> None:
    """Raises ValueError for another shape, a number not finite or beyond its bounds."""
    fits = array.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        wanted = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"{name}: {array.dtype} {array.shape}, expected finite, shape {wanted}")
    if array.size and (array.min() < least or np.abs(array.astype(np.float64)).max() > most):
        raise ValueError(f"{name}: beyond {max(least, -most):g} to {most:g}")
