"""Where the online predictor's knowledge outlives its process: a file of its own, one to inherit.

The own file (on a volume of the pod) survives a restart of the container and is taken up as it was
left. The inherited one (a ConfigMap, another pod's knowledge) is where a new pod starts.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from llmservice_api.sidecar_config import KeepConfig

from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.sharing import Describes

_log = logging.getLogger(__name__)

_LARGEST_BYTES: Final = 2_000_000  # whatever is there: no more of it is read


def restore(
    config: KeepConfig, base: Describes, *, origin: bytes | None = b""
) -> OnlinePredictor | None:
    """The predictor as it was kept; None when nothing is there that this version can read.

    `origin`: what it has to have begun with; what began otherwise is passed over. None: anything.
    """
    for path, inherit in ((config.state_path, False), (config.inherited_path, True)):
        if path is None:
            continue
        try:
            kept = snapshot.load(read(Path(path)), base=base, inherit=inherit)
        except FileNotFoundError:
            continue  # the first start, or nothing to inherit yet
        except (OSError, ValueError) as error:
            # An older version's, or cut by a crash: what is next is tried, at worst the start.
            _log.warning("%s cannot be taken up: %s", path, error)
            continue
        if origin is None or kept.origin == origin:
            return kept
        _log.warning("%s is passed over: it began with another content of predictor.uri", path)
    return None


def keep(payload: bytes, path: Path) -> None:
    """Write a state, so that a reader finds the old or the new one whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(payload)
    unfinished.replace(path)


def read(path: Path) -> bytes:
    """The bytes of a saved state. Raises OSError, or ValueError when they are too many."""
    with path.open("rb") as file:
        payload = file.read(_LARGEST_BYTES + 1)
    if len(payload) > _LARGEST_BYTES:
        raise ValueError(f"more than {_LARGEST_BYTES} bytes")
    return payload
