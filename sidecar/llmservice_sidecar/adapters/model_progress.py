"""How far the download program is, from the file that it leaves in a volume of the pod."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from llmservice_api.status_report import ModelReport

_log = logging.getLogger(__name__)


def read_progress(path: str | None) -> ModelReport | None:
    """The file's content; None when nothing is downloaded for this pod (there is no path)."""
    if path is None:
        return None
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=ModelReport)
    except FileNotFoundError:
        return ModelReport(phase="Downloading", message="the download has not begun")
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("the progress of the download cannot be read: %s", error)
        return ModelReport(phase="Downloading", message=f"{path} cannot be read")
