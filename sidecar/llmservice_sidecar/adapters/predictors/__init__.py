"""Length predictors: `make_predictor` builds the configured one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from llmservice_api.sidecar_config import PredictorConfig

from llmservice_sidecar.adapters.predictors import keeping, snapshot
from llmservice_sidecar.adapters.predictors.base import default_base
from llmservice_sidecar.adapters.predictors.cache import CachedDescriptions
from llmservice_sidecar.adapters.predictors.chain import ChainedPredictor, LengthModel, Origin
from llmservice_sidecar.adapters.predictors.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.onnx_proxy import OnnxProxy
from llmservice_sidecar.adapters.predictors.sharing import Describes

DEFAULT: Final = "Default"
FINE_TUNED: Final = "FineTuned"
KINDS: Final = (DEFAULT, FINE_TUNED)
_UNLOADABLE: Final = (OSError, ValueError, ImportError)

__all__ = ["KINDS", "ChainedPredictor", "local_path", "make_predictor"]


def make_predictor(
    config: PredictorConfig, *, enabled: bool, shipped: Callable[[], Describes] = default_base
) -> ChainedPredictor:
    """The predictor of a configuration; `enabled` False loads no model (mode Disabled).

    `shipped` gives the base model of the default predictor.

    Never raises: what cannot be loaded shows in `state` and `message`, and requests are served
    with the shipped model instead, or where even that is broken with their running mean.
    """
    if enabled:
        model, origin = _load(config, shipped)
    else:
        model, origin = None, Origin(config.kind, "Disabled")
    return ChainedPredictor(
        model, origin=origin, timeout_s=config.timeout_s, learns=config.online_learning
    )


def _load(
    config: PredictorConfig, shipped: Callable[[], Describes]
) -> tuple[LengthModel | None, Origin]:
    try:
        return _configured(config, shipped), Origin(config.kind, "Ready", trained=True)
    except _UNLOADABLE as error:
        why = str(error)
    try:
        plain = OnlinePredictor(CachedDescriptions(shipped()))
    except _UNLOADABLE as error:
        message = f"{why}; nor can the shipped model be loaded: {error}"
        return None, Origin(config.kind, "Failed", message)
    message = f"{why}; the shipped model serves instead"
    return plain, Origin(config.kind, "Failed", message, trained=True)


def _configured(config: PredictorConfig, shipped: Callable[[], Describes]) -> LengthModel:
    """Raises OSError, ValueError or ImportError naming what is wrong."""
    if config.kind not in KINDS:
        raise ValueError(f"predictor kind {config.kind!r} is unknown; allowed: {', '.join(KINDS)}")
    path = None if config.uri is None else local_path(config.uri)
    if config.kind == FINE_TUNED:
        if path is None:
            raise ValueError("kind FineTuned needs a uri: file:///DIRECTORY as train wrote it")
        return OnnxProxy.load(path)
    base = CachedDescriptions(shipped())
    kept = None if config.keep is None else keeping.restore(config.keep, base)
    if kept is not None:
        return kept
    if path is None:
        return OnlinePredictor(base)
    try:
        return snapshot.load(path.read_bytes(), base=base)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def local_path(uri: str) -> Path:
    """The path behind a predictor's URI, percent-encoding undone.

    Raises ValueError for any other kind of URI, and for one that says less or more than a path.
    """
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc:
        raise ValueError(f"{uri}: only file:///path is supported")
    if "?" in uri or "#" in uri:
        raise ValueError(f"{uri}: must not contain '?' or '#'; a name with them has %3F or %23")
    path = Path(unquote(parts.path))
    if ".." in path.parts:
        raise ValueError(f"{uri}: must not contain '..', encoded or not")
    return path
