"""Predictors by name or path, as `llmservice eval`, `predict` and `sim` take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, cast

from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.shipped.base import BaseModel

from llmservice_lab.predictors.asking import BatchPredictor

DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A predictor to be made, again for every service that it is to learn from.

    `by_model`: what it says depends on the served model, not on the prompt alone. `learns`: it is
    an `OnlinePredictor`.
    """

    name: str
    make: Callable[[], BatchPredictor]
    by_model: bool
    learns: bool = False


def load(name: str) -> Candidate:
    """`default` as shipped, or what is at a path: a fine-tuned proxy model (a folder with
    model.onnx), a trained base of the default predictor (.safetensors), or a snapshot of what it
    has learned.

    Raises ValueError naming the predictor: unknown, or not readable.
    """
    path = Path(name)
    if name == DEFAULT:
        return Candidate(name, OnlinePredictor, by_model=False, learns=True)
    if not path.exists():
        raise ValueError(
            f"predictor {name!r} is not known; known: {DEFAULT}, constant, prompt-length, "
            "tfidf-ridge, embedding-lightgbm, blend, and the path of a trained one"
        )
    try:
        return _from_path(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"predictor {name}: {error}") from error


def learned(candidate: Candidate) -> Callable[[], OnlinePredictor]:
    """What makes a learning predictor. Raises ValueError when this one does not learn."""
    if not candidate.learns:
        raise ValueError(f"predictor {candidate.name!r} does not learn; online takes `{DEFAULT}`")
    return cast("Callable[[], OnlinePredictor]", candidate.make)


def _from_path(path: Path) -> Candidate:
    """What is made here is kept as a function and a path: it can be sent to another process."""
    if path.is_dir():
        _proxy(path)
        return Candidate(path.name, partial(_proxy, path), by_model=False)
    if path.suffix == ".safetensors":
        _trained(path)
        return Candidate(path.stem, partial(_trained, path), by_model=False, learns=True)
    _saved(path)
    return Candidate(path.stem, partial(_saved, path), by_model=True, learns=True)


def _proxy(path: Path) -> BatchPredictor:
    from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import (  # noqa: PLC0415 - 50 MB
        OnnxProxy,
    )

    return OnnxProxy.load(path)


def _trained(path: Path) -> OnlinePredictor:
    return OnlinePredictor(_base(path))


def _saved(path: Path) -> OnlinePredictor:
    return snapshot.load(path.read_bytes())


@lru_cache(maxsize=2)
def _base(path: Path) -> BaseModel:
    return BaseModel.load(path)
