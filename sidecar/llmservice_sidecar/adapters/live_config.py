"""`live.json`, re-read when it changes. What is wrong with a new one is told; the old one stays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from llmservice_api.sidecar_config import ConfigError, LiveConfig, load_config

_log = logging.getLogger(__name__)

POLL_S: Final = 1.0
_Version = tuple[int, int, int]


class LiveConfigFile:
    """One file that somebody else replaces. `apply` takes over what was read.

    Kubernetes swaps a symlink in the directory: the file's identity changes, not only its time.
    """

    def __init__(self, path: Path, *, apply: Callable[[LiveConfig], None]) -> None:
        self._path = path
        self._apply = apply
        self._seen: _Version | None = None
        self.generation = 0  # of the configuration in use
        self.error = ""  # why the file's present content is not in use; empty if it is

    def load_first(self) -> LiveConfig:
        """The configuration to start with; `apply` is not called. Raises ConfigError."""
        self._seen = self._version()
        live = load_config(self._path, LiveConfig)
        self.generation = live.generation
        return live

    async def follow(self, *, interval_s: float = POLL_S) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            self.look()

    def look(self) -> None:
        """Take over the file if it is another than the last time."""
        version = self._version()
        if version == self._seen:
            return
        self._seen = version
        try:
            live = load_config(self._path, LiveConfig)
            self._apply(live)
        except (ConfigError, ValueError) as error:
            self.error = str(error)
            _log.error(
                "live configuration refused, generation %d stays: %s", self.generation, error
            )
            return
        self.error = ""
        self.generation = live.generation
        _log.info("live configuration of generation %d is in use", live.generation)

    def _version(self) -> _Version | None:
        try:
            status = self._path.stat()
        except OSError:
            return None  # between two symlinks; reading it is what complains if it stays away
        return status.st_ino, status.st_mtime_ns, status.st_size
