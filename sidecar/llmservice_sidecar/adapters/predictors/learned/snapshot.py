"""The online predictor's state as bytes: arrays only, no text, nothing executable.

It fits a ConfigMap. Beside what a process learned itself it keeps what that had inherited, so that
knowledge outlives generations of processes; by whose it is, for that replica may still live.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import numpy as np
from safetensors.numpy import save as serialise

from llmservice_sidecar.adapters.predictors.learned import sharing
from llmservice_sidecar.adapters.predictors.learned.calibration import ASSUMED
from llmservice_sidecar.adapters.predictors.learned.head import Head
from llmservice_sidecar.adapters.predictors.learned.lesson import INPUTS, MIX, Lesson
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.packing import (
    STEPS,
    Detail,
    Packed,
    cut,
    pack,
    unpack,
)
from llmservice_sidecar.adapters.predictors.learned.sharing import (
    Describes,
    Encoded,
    PayloadError,
    Tensors,
)
from llmservice_sidecar.adapters.predictors.learned.turns import finish
from llmservice_sidecar.adapters.predictors.shipped.features import HASHED, Vector

MAX_BYTES: Final = 750_000  # a ConfigMap holds 1 MiB, and as base64 it is to fit 1 MiB, too
MOST_INHERITED: Final = 2000  # outcomes: what was inherited twice must not outvote what is new
GENERATIONS: Final = 2  # whose lessons are told apart; what is older counts to the elder

ORIGIN: Final = "origin"
LONGEST_ORIGIN: Final = 64  # bytes


_PRIOR: Final[dict[str, tuple[type[np.generic], tuple[int, ...]]]] = {
    "dense": (np.float32, (INPUTS, 2)),
    "hashed": (np.int8, (HASHED,)),
    "scales": (np.float64, (3,)),  # of `hashed`; its bias; outcomes that the prior rests on
    "mix": (np.float64, (len(MIX), 1)),
    "errors": (np.float32, (ASSUMED,)),
}
_LARGEST_PRIOR: Final = 1e12
_PRIOR_BYTES: Final = sum(
    int(np.prod(shape)) * np.dtype(kind).itemsize + 120 for kind, shape in _PRIOR.values()
)


def save(predictor: OnlinePredictor) -> bytes:
    """All that its own requests taught it and what it had inherited; not what live peers told.

    In as much detail as fits; at worst the most experienced heads.
    """
    return finish(saving(predictor)).payload


def saving(predictor: OnlinePredictor) -> Generator[None, None, Encoded]:
    """`save`, a head a step."""
    lessons: dict[str, list[Packed]] = {}
    for key, head in list(predictor.heads.items()):
        inherited = head.told.inherited
        if not head.samples and not inherited:
            continue  # what others told is theirs to keep
        lessons[key] = [head.packed(), *inherited.values()]
        yield
    detail, keys = sharing.fitting(lessons, room=MAX_BYTES, more=_PRIOR_BYTES)
    tensors = sharing.stamp(predictor.base)
    tensors[ORIGIN] = np.frombuffer(predictor.origin, np.uint8)
    tensors["replicas"] = sharing.identity_tensor([predictor.replica, *predictor.elders])
    for key in keys:
        head = predictor.heads.get(key)
        if head is not None:
            tensors |= _head_tensors(key, head, elders=predictor.elders, detail=detail)
        yield
    return Encoded(serialise(tensors), len(lessons) - len(keys))


def load(
    payload: bytes, *, base: Describes | None = None, inherit: bool = False
) -> OnlinePredictor:
    """The predictor that was saved: it predicts and learns like the original.

    `base`: what describes prompts (None: the shipped model). `inherit`: the snapshot is another
    process's. Then it counts as told, not as learned here, is never passed on as its own evidence,
    and weighs as `MOST_INHERITED` outcomes at most.
    Raises PayloadError for another version or base model, a wrong shape, a value not finite.
    """
    predictor = OnlinePredictor(base)
    tensors = sharing.read(predictor.base, payload, max_bytes=MAX_BYTES)
    predictor.origin = _origin(tensors)
    replicas = sharing.identities(tensors, "replicas", least=1, most=1 + GENERATIONS)
    if not inherit:
        predictor.replica = replicas[0]
    predictor.elders = replicas[:GENERATIONS] if inherit else replicas[1:]
    for key in sharing.keys_of(tensors):
        head = Head()
        predictor.heads[key] = head
        try:
            _restore(head, key, tensors, replicas=replicas, inherit=inherit)
        except ValueError as error:
            raise PayloadError(f"{key}: {error}") from error
    sharing.refuse_rest(tensors)
    predictor.recount()
    return predictor


def _origin(tensors: Tensors) -> bytes:
    found = sharing.take(tensors, ORIGIN, kind=np.uint8)
    if found.ndim != 1 or found.size > LONGEST_ORIGIN:
        raise PayloadError(f"{ORIGIN}: shape {found.shape}; expected at most {LONGEST_ORIGIN}")
    return found.tobytes()


def _head_tensors(key: str, head: Head, *, elders: list[str], detail: Detail) -> Tensors:
    dense, hashed, mix = (regression.mean for regression in head.regressions)
    scale = float(np.abs(hashed[:-1]).max()) / STEPS
    tensors: Tensors = {
        f"{key}.prior.dense": dense.astype(np.float32),
        f"{key}.prior.hashed": np.rint(hashed[:-1] / (scale or 1.0)).astype(np.int8),
        f"{key}.prior.scales": np.array([scale, hashed[-1], head.believed]),
        f"{key}.prior.mix": mix,
        f"{key}.prior.errors": head.calibration.assumed.astype(np.float32),
        **sharing.packed_tensors(f"{key}.0", cut(head.packed(), detail)),
    }
    for number, elder in enumerate(elders):
        inherited = head.told.inherited.get(elder)
        if inherited is not None:
            tensors |= sharing.packed_tensors(f"{key}.{number + 1}", cut(inherited, detail))
    return tensors


def _restore(head: Head, key: str, tensors: Tensors, *, replicas: list[str], inherit: bool) -> None:
    prior = {name: _prior(tensors, f"{key}.prior.{name}", name) for name in _PRIOR}
    scale, bias, believed = prior["scales"].tolist()
    head.dense.restart(prior["dense"])
    head.hashed.restart(np.append(prior["hashed"] * scale, bias))
    head.mix.restart(prior["mix"])
    head.believed = max(0.0, believed)
    head.calibration.assume(prior["errors"])
    told = {
        replica: sharing.packed_of(f"{key}.{number}", tensors)
        for number, replica in enumerate(replicas)
        if number == 0 or f"{key}.{number}.count" in tensors
    }
    if inherit:
        told = _bounded(told)
    else:
        head.restore(unpack(told.pop(replicas[0])))
    head.told.inherited = told
    head.absorb(told)


def _prior(tensors: Tensors, full_name: str, name: str) -> Vector:
    kind, shape = _PRIOR[name]
    found = sharing.take(tensors, full_name, kind=kind)
    if found.shape != shape or not (np.abs(found.astype(np.float64)) <= _LARGEST_PRIOR).all():
        raise PayloadError(f"{full_name}: shape {found.shape}; expected {shape}, finite numbers")
    return found.astype(np.float64)


def _bounded(told: dict[str, Packed]) -> dict[str, Packed]:
    """Lessons of `GENERATIONS` at most, weighing as `MOST_INHERITED` outcomes at most."""
    lessons: dict[str, Lesson] = {}
    for replica, packed in told.items():
        if len(lessons) == GENERATIONS:  # its elder: by now that has most likely ended, too
            latest = next(reversed(lessons))
            lessons[latest] = lessons[latest].plus(unpack(packed))
        else:
            lessons[replica] = unpack(packed)
    total = sum(lesson.samples for lesson in lessons.values())
    factor = min(1.0, MOST_INHERITED / max(total, 1))
    return {replica: pack(lesson.times(factor)) for replica, lesson in lessons.items()}
