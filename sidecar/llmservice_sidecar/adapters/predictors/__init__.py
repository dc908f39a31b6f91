"""Length predictors: `make_predictor` builds the configured one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from llmservice_api.sidecar_config import PredictorConfig

from llmservice_sidecar.adapters.predictors import keeping
from llmservice_sidecar.adapters.predictors.cache import CachedDescriptions
from llmservice_sidecar.adapters.predictors.chain import ChainedPredictor, LengthModel, Origin
from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.sharing import Describes
from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import OnnxProxy
from llmservice_sidecar.adapters.predictors.shipped.base import default_base

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
        fallback, serves = _fallback(config, shipped)
    except _UNLOADABLE as error:
        message = f"{why}; nor can the shipped model be loaded: {error}"
        return None, Origin(config.kind, "Failed", message)
    return fallback, Origin(config.kind, "Failed", f"{why}; {serves}", trained=True)


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
    # The configured start is read even where what was learned on top of it will serve: whether it
    # is there must not depend on what was learned.
    start = OnlinePredictor(base) if path is None else _start(path, base)
    return _kept(config, base, origin=start.origin) or start


def _start(path: Path, base: Describes) -> OnlinePredictor:
    """A saved state to start from, known by the hash of its bytes. Raises OSError, ValueError."""
    try:
        payload = keeping.read(path)
        # Each replica starts with it: to them together it must not be news from each of them.
        start = snapshot.load(payload, base=base, inherit=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    start.origin = hashlib.blake2b(payload, digest_size=16).digest()
    return start


def _fallback(config: PredictorConfig, shipped: Callable[[], Describes]) -> tuple[LengthModel, str]:
    """What serves instead of the configured predictor, and that in words."""
    base = CachedDescriptions(shipped())
    kept = _kept(config, base, origin=None) if config.kind == DEFAULT else None
    if kept is None:
        return OnlinePredictor(base), "the shipped model serves instead"
    return kept, "what was learned before serves instead"


def _kept(
    config: PredictorConfig, base: Describes, *, origin: bytes | None
) -> OnlinePredictor | None:
    """What was learned before; nothing where learning is switched off."""
    if config.keep is None or not config.online_learning:
        return None
    return keeping.restore(config.keep, base, origin=origin)


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
