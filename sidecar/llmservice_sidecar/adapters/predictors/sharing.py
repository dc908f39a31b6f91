"""What heads learned, as bytes: numbers only, no text, nothing executable, strictly checked.

A payload is a safetensors file. Heads appear by the hash of their model's name; evidence has the
precision that ranks and calibration need, not more, so that it fits where small objects must fit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise

from llmservice_sidecar.adapters.predictors.base import Description
from llmservice_sidecar.adapters.predictors.calibration import COLUMNS, LEVELS
from llmservice_sidecar.adapters.predictors.features import FEATURE_SET, HASHED
from llmservice_sidecar.adapters.predictors.head import INPUTS, MIX, Head, Lesson
from llmservice_sidecar.adapters.predictors.regression import Evidence
from llmservice_sidecar.runtime.ports import PredictionQuery

FORMAT: Final = 4
MAX_BYTES: Final = 300_000
MAX_SAMPLES: Final = 1e12
MAX_NUMBER: Final = 1e12
ROUNDING: Final = 1.01  # correlations may exceed one by what half precision rounds
HALF: Final = 6e4  # the largest number in half precision, roughly
LEAST_SCALE: Final = 1e-6
LEAST_PRECISION: Final = 1e-4  # many words that were met once tell much together

Tensor = npt.NDArray[Any]
Tensors = dict[str, Tensor]

_KEY: Final = re.compile(r"[0-9a-f]{16}\Z")
_UNTAUGHT: Final = Head()
_PROBE: Final = PredictionQuery(
    text="Write a short story about 2 rivers.", prompt_tokens=9, endpoint="chat", model=""
)


class PayloadError(ValueError):
    """The bytes are nothing that this version and base model understand; the message says why."""


class Describes(Protocol):
    """Describes prompts: the shipped model, or one with a cache before it."""

    def describe(self, query: PredictionQuery) -> Description: ...


def encode(base: Describes, lessons: Mapping[str, Lesson]) -> bytes:
    """Lessons by head, the most experienced first, as many as fit into `MAX_BYTES`."""
    tensors, left = stamp(base), MAX_BYTES - 1024
    for key, lesson in sorted(lessons.items(), key=lambda item: (-item[1].samples, item[0])):
        more = lesson_tensors(key, lesson)
        left -= size_of(more)
        if left < 0:
            break
        tensors |= more
    return serialise(tensors)


def decode(base: Describes, payload: bytes) -> dict[str, Lesson]:
    """Lessons by head. Raises PayloadError for anything that `encode` would not have written."""
    tensors = read(base, payload, max_bytes=MAX_BYTES)
    lessons = {key: lesson_of(key, tensors) for key in keys_of(tensors)}
    refuse_rest(tensors)
    return lessons


def stamp(base: Describes) -> Tensors:
    """What tells payloads of another version, feature set or base model apart."""
    probe = base.describe(_PROBE)
    told = np.round(np.append(probe.dense, probe.log_tokens), 3) + 0.0  # no minus zero
    digest = hashlib.blake2b(told.astype("<f8").tobytes(), digest_size=8).digest()
    return {
        "version": np.array([FORMAT, FEATURE_SET, INPUTS, HASHED], np.int64),
        "base": np.frombuffer(digest, np.uint8),
    }


def read(base: Describes, payload: bytes, *, max_bytes: int) -> Tensors:
    """The tensors of a payload with our stamp, which is taken off. Raises PayloadError."""
    if len(payload) > max_bytes:
        raise PayloadError(f"{len(payload)} bytes; at most {max_bytes} are allowed")
    try:
        tensors: Tensors = parse(payload)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise PayloadError(f"not readable: {error}") from error
    for name, ours in stamp(base).items():
        found = tensors.pop(name, None)
        if found is None or not np.array_equal(found, ours):
            said = "none" if found is None else found.tolist()
            raise PayloadError(f"{name} {said}; this version and base model read {ours.tolist()}")
    return tensors


def keys_of(tensors: Tensors) -> list[str]:
    """The heads in a payload, sorted. Raises PayloadError."""
    keys = sorted({name.partition(".")[0] for name in tensors})
    for key in keys:
        if not _KEY.match(key):
            raise PayloadError(f"head {key!r}; expected 16 hex digits")
    return keys


def refuse_rest(tensors: Tensors) -> None:
    """Raises PayloadError when something in a payload was not asked for."""
    if tensors:
        raise PayloadError(f"{min(tensors)} is not known")


def size_of(tensors: Tensors) -> int:
    """Bytes that tensors take in a payload, their headers included."""
    return sum(tensor.nbytes + 160 for tensor in tensors.values())


def lesson_tensors(key: str, lesson: Lesson) -> Tensors:
    """One lesson as tensors that all start with its head's key."""
    hashed = lesson.hashed
    bins = np.flatnonzero(np.abs(hashed.precision[:-1]) > LEAST_PRECISION)
    return {
        f"{key}.samples": np.array([lesson.samples], np.int64),
        f"{key}.errors": lesson.errors.astype(np.float16),
        f"{key}.offsets": lesson.offsets,
        f"{key}.totals": lesson.totals,
        f"{key}.hashed.bins": bins.astype(np.uint16),
        f"{key}.hashed.precision": np.clip(hashed.precision[bins], 0.0, HALF).astype(np.float16),
        f"{key}.hashed.shift": np.clip(hashed.shift[bins], -HALF, HALF).astype(np.float16),
        f"{key}.hashed.bias": np.array([hashed.precision[-1], hashed.shift[-1]]),
        **_full_tensors(f"{key}.dense", lesson.dense),
        **_full_tensors(f"{key}.mix", lesson.mix),
    }


def lesson_of(key: str, tensors: Tensors) -> Lesson:
    """The lesson of a head; its tensors are taken out. Raises PayloadError."""
    samples = float(take(tensors, f"{key}.samples", shape=(1,))[0])
    if not 0 <= samples <= MAX_SAMPLES:
        raise PayloadError(f"{key}.samples {samples:g}; allowed: 0 to {MAX_SAMPLES:g}")
    lesson = Lesson(
        samples=int(samples),
        dense=_full(f"{key}.dense", tensors, shape=(INPUTS, 2)),
        hashed=_diagonal(f"{key}.hashed", tensors),
        mix=_full(f"{key}.mix", tensors, shape=(len(MIX), 1)),
        errors=take(tensors, f"{key}.errors", shape=(None, COLUMNS)),
        offsets=take(tensors, f"{key}.offsets", shape=(len(LEVELS),)),
        totals=take(tensors, f"{key}.totals", shape=(2,)),
    )
    if lesson.totals.min() < 0.0:
        raise PayloadError(f"{key}.totals {lesson.totals.tolist()}; expected none below zero")
    try:
        _UNTAUGHT.check(lesson.parts())
    except ValueError as error:
        raise PayloadError(f"{key}: {error}") from error
    return lesson


def take(tensors: Tensors, name: str, *, shape: tuple[int | None, ...]) -> Tensor:
    """A tensor of finite numbers as float64, taken out; None in `shape`: any size."""
    found = tensors.pop(name, None)
    if found is None:
        raise PayloadError(f"lacks {name}")
    right = found.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True)
    )
    numbers = found.astype(np.float64)
    if not right or not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0) > MAX_NUMBER:
        wanted = tuple("any" if size is None else size for size in shape)
        raise PayloadError(f"{name}: {found.dtype} {found.shape}, expected finite, shape {wanted}")
    return numbers


def _full_tensors(name: str, evidence: Evidence) -> Tensors:
    """A precision as the root of its diagonal and half of its correlations."""
    scale = np.sqrt(np.maximum(np.diag(evidence.precision), LEAST_SCALE**2))
    related = evidence.precision / np.outer(scale, scale)
    below = np.tril_indices(len(scale), -1)
    return {
        f"{name}.scale": scale.astype(np.float32),
        f"{name}.related": np.clip(related[below], -1.0, 1.0).astype(np.float16),
        f"{name}.shift": evidence.shift.astype(np.float32),
    }


def _full(name: str, tensors: Tensors, *, shape: tuple[int, int]) -> Evidence:
    inputs = shape[0]
    scale = take(tensors, f"{name}.scale", shape=(inputs,))
    related = take(tensors, f"{name}.related", shape=(inputs * (inputs - 1) // 2,))
    if scale.min() < 0.0 or np.abs(related).max() > ROUNDING:
        raise PayloadError(f"{name}: not the parts of a precision")
    precision = np.zeros((inputs, inputs))
    precision[np.tril_indices(inputs, -1)] = related
    precision = (precision + precision.T + np.eye(inputs)) * np.outer(scale, scale)
    return Evidence(precision, take(tensors, f"{name}.shift", shape=shape))


def _diagonal(name: str, tensors: Tensors) -> Evidence:
    bins = take(tensors, f"{name}.bins", shape=(None,)).astype(np.int64)
    if len(bins) and (bins[0] < 0 or bins[-1] >= HASHED or (np.diff(bins) <= 0).any()):
        raise PayloadError(f"{name}.bins: not ascending within 0 and {HASHED - 1}")
    evidence = Evidence(np.zeros(HASHED + 1), np.zeros(HASHED + 1))
    evidence.precision[bins] = take(tensors, f"{name}.precision", shape=bins.shape)
    evidence.shift[bins] = take(tensors, f"{name}.shift", shape=bins.shape)
    bias = take(tensors, f"{name}.bias", shape=(2,))
    evidence.precision[-1], evidence.shift[-1] = bias
    if evidence.precision.min() < 0.0:
        raise PayloadError(f"{name}: a precision below zero")
    return evidence
