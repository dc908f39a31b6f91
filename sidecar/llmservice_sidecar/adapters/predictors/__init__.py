"""Length predictors: `make_predictor` builds the configured one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from llmservice_api.sidecar_config import PredictorConfig

from llmservice_sidecar.adapters.predictors import snapshot
from llmservice_sidecar.adapters.predictors.chain import ChainedPredictor, LengthModel, Origin
from llmservice_sidecar.adapters.predictors.online import OnlinePredictor

# How each kind reads its artefact; without one the online predictor starts empty.
KINDS: Final[dict[str, Callable[[bytes], LengthModel]]] = {"Default": snapshot.load}

__all__ = ["KINDS", "ChainedPredictor", "make_predictor"]


def make_predictor(config: PredictorConfig, *, enabled: bool) -> ChainedPredictor:
    """The predictor of a configuration; `enabled` False loads no model (mode Disabled).

    Never raises: what cannot be loaded shows in `state` and `message`, and requests are served
    with the fallback or with a model that learns from nothing.
    """
    model, origin = _load(config) if enabled else (None, Origin(config.kind, "Disabled"))
    return ChainedPredictor(
        model, origin=origin, timeout_s=config.timeout_s, learns=config.online_learning
    )


def _load(config: PredictorConfig) -> tuple[LengthModel | None, Origin]:
    read = KINDS.get(config.kind)
    if read is None:
        message = f"predictor kind {config.kind!r} is unknown; allowed: {', '.join(sorted(KINDS))}"
        return None, Origin(config.kind, "Failed", message)
    if config.uri is None:
        return OnlinePredictor(), Origin(config.kind, "Ready")
    try:
        model = read(_artefact(config.uri))
    except (OSError, ValueError) as error:
        message = f"{config.uri}: {error}; learning from live requests alone"
        return OnlinePredictor(), Origin(config.kind, "Failed", message)
    return model, Origin(config.kind, "Ready", trained=True)


def _artefact(uri: str) -> bytes:
    """The bytes behind a predictor's URI. Raises OSError or ValueError."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc:
        raise ValueError("only file:///path is supported")
    return Path(unquote(parts.path)).read_bytes()
