"""The online predictor's state as bytes: arrays only, no text, nothing executable.

It fits a ConfigMap. Beside what a process learned itself it keeps what that had inherited, so that
knowledge outlives generations of processes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from safetensors.numpy import save as serialise

from llmservice_sidecar.adapters.predictors import sharing
from llmservice_sidecar.adapters.predictors.calibration import ASSUMED
from llmservice_sidecar.adapters.predictors.features import HASHED
from llmservice_sidecar.adapters.predictors.head import INHERITED, INPUTS, MIX, Head, Lesson
from llmservice_sidecar.adapters.predictors.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.sharing import Describes, PayloadError, Tensors

MAX_BYTES: Final = 750_000  # a ConfigMap holds 1 MiB, and as base64 it is to fit 1 MiB, too
MOST_INHERITED: Final = 2000  # outcomes: what was inherited twice must not outvote what is new
ORIGIN: Final = "origin"
LONGEST_ORIGIN: Final = 64  # bytes

SnapshotError = PayloadError  # kept for callers: the bytes are no snapshot of this version


def save(predictor: OnlinePredictor) -> bytes:
    """All that its own requests taught it and what it had inherited; not what live peers told.

    The most experienced heads, if not all fit.
    """
    tensors, left = sharing.stamp(predictor.base), MAX_BYTES - 1024
    tensors[ORIGIN] = np.frombuffer(predictor.origin, np.uint8)
    by_experience = sorted(predictor.heads.items(), key=lambda item: (-item[1].samples, item[0]))
    for key, head in by_experience:
        more = _head_tensors(key, head)
        left -= sharing.size_of(more)
        if left < 0:
            break
        tensors |= more
    return serialise(tensors)


def load(
    payload: bytes, *, base: Describes | None = None, inherit: bool = False
) -> OnlinePredictor:
    """The predictor that was saved: it predicts and learns like the original.

    `base`: what describes prompts (None: the shipped model). `inherit`: the snapshot is another
    process's. Then it counts as told, not as learned here, is never passed on as its own evidence,
    and weighs as `MOST_INHERITED` outcomes at most.
    Raises SnapshotError for another version or base model, a wrong shape, a value not finite.
    """
    predictor = OnlinePredictor(base)
    tensors = sharing.read(predictor.base, payload, max_bytes=MAX_BYTES)
    predictor.origin = _origin(tensors)
    for key in sharing.keys_of(tensors):
        _restore(predictor.heads.setdefault(key, Head()), key, tensors, inherit=inherit)
    sharing.refuse_rest(tensors)
    predictor.recount()
    return predictor


def _origin(tensors: Tensors) -> bytes:
    found = tensors.pop(ORIGIN, None)
    if found is None or found.dtype != np.uint8 or found.ndim != 1 or found.size > LONGEST_ORIGIN:
        raise SnapshotError(f"{ORIGIN}: expected at most {LONGEST_ORIGIN} bytes")
    return found.tobytes()


def _head_tensors(key: str, head: Head) -> Tensors:
    dense, hashed, mix = (regression.mean for regression in head.regressions)
    tensors = {
        f"{key}.prior.dense": dense.astype(np.float32),
        f"{key}.prior.hashed": hashed.astype(np.float16),
        f"{key}.prior.mix": mix.astype(np.float32),
        f"{key}.prior.believed": np.array([head.believed]),
        f"{key}.prior.errors": head.calibration.assumed.astype(np.float32),
        **sharing.lesson_tensors(f"{key}.own", head.lesson()),
    }
    inherited = head.told_by(INHERITED)
    if inherited is not None:
        tensors |= sharing.lesson_tensors(f"{key}.inherited", inherited)
    return tensors


def _restore(head: Head, key: str, tensors: Tensors, *, inherit: bool) -> None:
    shapes = {"dense": (INPUTS, 2), "hashed": (HASHED + 1,), "mix": (len(MIX), 1)}
    for regression, (name, shape) in zip(head.regressions, shapes.items(), strict=True):
        regression.restart(sharing.take(tensors, f"{key}.prior.{name}", shape=shape))
    head.believed = max(0.0, float(sharing.take(tensors, f"{key}.prior.believed", shape=(1,))[0]))
    head.calibration.assume(sharing.take(tensors, f"{key}.prior.errors", shape=(ASSUMED,)))
    lessons = [sharing.lesson_of(f"{key}.own", tensors)]
    if any(name.startswith(f"{key}.inherited.") for name in tensors):
        lessons.append(sharing.lesson_of(f"{key}.inherited", tensors))
    try:
        if inherit:
            head.absorb(INHERITED, _bounded(lessons))
            return
        head.restore(lessons[0])
        for lesson in lessons[1:]:
            head.absorb(INHERITED, lesson)
    except ValueError as error:
        raise SnapshotError(f"{key}: {error}") from error


def _bounded(lessons: list[Lesson]) -> Lesson:
    """One lesson from all, weighing as `MOST_INHERITED` outcomes at most."""
    total = lessons[0]
    for lesson in lessons[1:]:
        total = total.plus(lesson)
    return total.times(min(1.0, MOST_INHERITED / max(total.samples, 1)))
