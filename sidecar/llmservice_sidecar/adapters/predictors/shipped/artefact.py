"""Model files: named arrays and a card that says what they are. Nothing in them can run."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from llmservice_sidecar.adapters.predictors.errors import ArtefactError

Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]

MAX_BYTES: Final = 32_000_000
_CARD: Final = "card"  # one metadata entry: the order of several is drawn anew in every process


def read(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Card and arrays. Raises OSError when unreadable, ArtefactError for anything but a model."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ArtefactError(f"{path}: {size} bytes; a model has at most {MAX_BYTES}")
    safetensors = importlib.import_module("safetensors")  # ships no complete types
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            about: dict[str, str] = opened.metadata() or {}
            card = msgspec.json.decode(about.get(_CARD, "{}"), type=dict[str, Any])
            tensors = {str(name): np.asarray(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    except (safetensors.SafetensorError, msgspec.DecodeError) as error:
        raise ArtefactError(f"{path}: not a model file: {error}") from error
    return card, tensors


def write(path: Path, *, card: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a model file; the same card and arrays give the same bytes. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    importlib.import_module("safetensors.numpy").save_file(
        {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)},
        path,
        {_CARD: json.dumps(card, sort_keys=True)},
    )
