"""What heads learned, as bytes: numbers only, no text, nothing executable, strictly checked.

A payload is a safetensors file. Heads appear by the hash of their model's name, and the replica by
a random identity: under however many addresses it is met, it counts once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise

from llmservice_sidecar.adapters.predictors.learned.lesson import INPUTS
from llmservice_sidecar.adapters.predictors.learned.packing import (
    DETAILS,
    TYPES,
    Array,
    Detail,
    Packed,
    cut,
    unpack,
)
from llmservice_sidecar.adapters.predictors.shipped.base import Description
from llmservice_sidecar.adapters.predictors.shipped.features import FEATURE_SET, HASHED
from llmservice_sidecar.runtime.ports import PredictionQuery

FORMAT: Final = 5
MAX_HEADS: Final = 16  # served models and adapters
MAX_BYTES: Final = 600_000
IDENTITY_BYTES: Final = 8
LONGEST_NAME: Final = 40  # of a tensor, in messages

Tensors = dict[str, Array]

_KEY: Final = re.compile(r"[0-9a-f]{16}\Z")
_HEADER: Final = 2048  # bytes, at most, of what is not of a head
_OF_A_NAME: Final = 110  # bytes of a header that a tensor takes
_PROBE: Final = PredictionQuery(
    text="Write a short story about 2 rivers.", prompt_tokens=9, endpoint="chat", model=""
)


class PayloadError(ValueError):
    """The bytes are nothing that this version and base model understand; the message says why."""


class Describes(Protocol):
    """Describes prompts: the shipped model, or one with a cache before it."""

    def describe(self, query: PredictionQuery) -> Description: ...


class Encoded(NamedTuple):
    """Bytes, and how many heads did not fit into them."""

    payload: bytes
    left_out: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a replica tells: its identity, and a lesson per head."""

    replica: str
    lessons: Mapping[str, Packed]


def encoding(
    base: Describes, replica: str, lessons: Mapping[str, Packed]
) -> Generator[None, None, Encoded]:
    """A replica's lessons by head as bytes, a head a step.

    All in full, or in as much detail as fits into `MAX_BYTES`; at worst the most experienced.
    """
    detail, keys = fitting({key: [packed] for key, packed in lessons.items()}, room=MAX_BYTES)
    tensors = stamp(base) | {"replica": identity_tensor([replica])}
    for key in keys:
        tensors |= packed_tensors(key, cut(lessons[key], detail))
        yield
    return Encoded(serialise(tensors), len(lessons) - len(keys))


def decoding(base: Describes, payload: bytes) -> Generator[None, None, Statistics]:
    """What a replica told, a head a step. Raises PayloadError for anything else."""
    tensors = read(base, payload, max_bytes=MAX_BYTES)
    (replica,) = identities(tensors, "replica", least=1, most=1)
    lessons: dict[str, Packed] = {}
    keys = keys_of(tensors)
    if len(keys) > MAX_HEADS:
        raise PayloadError(f"{len(keys)} heads; at most {MAX_HEADS} are allowed")
    for key in keys:
        lessons[key] = packed_of(key, tensors)
        yield
    refuse_rest(tensors)
    return Statistics(replica, lessons)


def fitting(
    heads: Mapping[str, list[Packed]], *, room: int, more: int = 0
) -> tuple[Detail, list[str]]:
    """The detail in which all heads fit; or the least, and those that fit, by their experience.

    `more`: bytes that a head takes beside its lessons.
    """
    order = sorted(heads, key=lambda key: (-max(one.samples for one in heads[key]), key))

    def size(key: str, detail: Detail) -> int:
        return more + sum(detail.size(one) + _OF_A_NAME * len(TYPES) for one in heads[key])

    kept: list[str] = []
    for detail in DETAILS:
        left, kept = room - _HEADER, []
        for key in order:
            left -= size(key, detail)
            if left < 0:
                break
            kept.append(key)
        if len(kept) == len(order):
            return detail, kept
    return DETAILS[-1], kept


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
        raise PayloadError(f"not readable: {str(error)[:200]}") from error
    for name, ours in stamp(base).items():
        found = take(tensors, name, kind=ours.dtype.type)
        if found.shape != ours.shape:
            raise PayloadError(f"{name}: shape {found.shape}; expected {ours.shape}")
        if not np.array_equal(found, ours):
            said = f"{name} {found.tolist()}"
            raise PayloadError(f"{said}; this version and base model read {ours.tolist()}")
    return tensors


def identity_tensor(replicas: list[str]) -> Array:
    """Identities of replicas, one a row."""
    told = b"".join(bytes.fromhex(replica) for replica in replicas)
    return np.frombuffer(told, np.uint8).reshape(len(replicas), IDENTITY_BYTES)


def identities(tensors: Tensors, name: str, *, least: int, most: int) -> list[str]:
    """The identities in a tensor, which is taken out. Raises PayloadError."""
    found = take(tensors, name, kind=np.uint8)
    if found.ndim != 2 or found.shape[1] != IDENTITY_BYTES or not least <= len(found) <= most:
        raise PayloadError(f"{name}: shape {found.shape}; expected {least} to {most} identities")
    return [row.tobytes().hex() for row in found]


def keys_of(tensors: Tensors) -> list[str]:
    """The heads in a payload, sorted. Raises PayloadError."""
    keys = sorted({name.partition(".")[0] for name in tensors})
    for key in keys:
        if not _KEY.match(key):
            raise PayloadError(f"head {key[:LONGEST_NAME]!r}; expected 16 hex digits")
    return keys


def refuse_rest(tensors: Tensors) -> None:
    """Raises PayloadError when something in a payload was not asked for."""
    if tensors:
        raise PayloadError(f"{min(tensors)[:LONGEST_NAME]!r} is not known")


def packed_tensors(prefix: str, packed: Packed) -> Tensors:
    """A lesson as tensors that all start with a prefix."""
    return {f"{prefix}.{name}": getattr(packed, name) for name in TYPES}


def packed_of(prefix: str, tensors: Tensors) -> Packed:
    """A lesson that can be believed; its tensors are taken out. Raises PayloadError."""
    arrays = {name: take(tensors, f"{prefix}.{name}", kind=kind) for name, kind in TYPES.items()}
    packed = Packed(**arrays)
    try:
        unpack(packed)
    except ValueError as error:
        raise PayloadError(f"{prefix}.{error}") from error
    return packed


def take(tensors: Tensors, name: str, *, kind: type[np.generic]) -> Array:
    """A tensor of a type, taken out. Raises PayloadError."""
    found = tensors.pop(name, None)
    if found is None:
        raise PayloadError(f"lacks {name}")
    if found.dtype != kind:
        raise PayloadError(f"{name}: {found.dtype} {found.shape}; expected {np.dtype(kind)}")
    return found
