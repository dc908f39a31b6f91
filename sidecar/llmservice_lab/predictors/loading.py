"""Predictors by name or path, as `llmservice eval`, `predict` and `sim` take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

from llmservice_sidecar.adapters.predictors import snapshot
from llmservice_sidecar.adapters.predictors.base import BaseModel
from llmservice_sidecar.adapters.predictors.online import OnlinePredictor

from llmservice_lab.predictors.asking import BatchPredictor, Learner

DEFAULT: Final = "default"
PROXY_MODEL: Final = "model.onnx"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A predictor to be made, again for every service that it is to learn from.

    `by_model`: what it says depends on the served model, not on the prompt alone. `learns`: it is
    a `Learner`.
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


def learned(candidate: Candidate) -> Callable[[], Learner]:
    """What makes a learning predictor. Raises ValueError when this one does not learn."""
    if not candidate.learns:
        raise ValueError(f"predictor {candidate.name!r} does not learn; online takes `{DEFAULT}`")
    return cast("Callable[[], Learner]", candidate.make)


def _from_path(path: Path) -> Candidate:
    if path.is_dir():
        from llmservice_sidecar.adapters.predictors.onnx_proxy import (  # noqa: PLC0415 - 50 MB
            OnnxProxy,
        )

        proxy = OnnxProxy.load(path)
        return Candidate(path.name, lambda: proxy, by_model=False)
    if path.suffix == ".safetensors":
        base = BaseModel.load(path)
        return Candidate(path.stem, partial(OnlinePredictor, base), by_model=False, learns=True)
    payload = path.read_bytes()
    snapshot.load(payload)  # refused here, not in the middle of an evaluation
    return Candidate(path.stem, partial(snapshot.load, payload), by_model=True, learns=True)
