"""A directory that a kubelet keeps equal to a Secret, taken over again whenever it changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from llmservice_api.sidecar_config import ConfigError

_log = logging.getLogger(__name__)

_DATA: Final = "..data"  # the symlink that a kubelet swaps: all files change at one moment
_Version = tuple[object, ...]


class MountedSecret:
    """One mounted Secret, named by `field` of the spec. `apply` takes over a directory's files.

    `apply` returns what of it is not in use ("" if all is), or raises OSError or ConfigError: then
    what was in use before stays. No message may quote the Secret.
    """

    def __init__(self, directory: Path, *, field: str, apply: Callable[[Path], str]) -> None:
        self._directory = directory
        self._field = field
        self._apply = apply
        self._seen: _Version = ()
        self.error = ""  # why the present content, or a part of it, is not in use

    def load_first(self) -> None:
        """Take over what is there at the start. Raises ConfigError naming the field."""
        self._seen = self._version()
        try:
            self.error = self._apply(self._files())
        except OSError as error:
            raise ConfigError(f"{self._field}: {self._directory}: {_text(error)}") from error
        except ConfigError as error:
            raise ConfigError(f"{self._field}: {error}") from error
        if self.error:
            _log.error("%s: %s", self._field, self.error)

    def look(self) -> None:
        """Take over the directory if it is another than the last time."""
        version = self._version()
        if version == self._seen:
            return
        self._seen = version
        try:
            self.error = self._apply(self._files())
        except (OSError, ConfigError) as error:
            text = _text(error) if isinstance(error, OSError) else str(error)
            self.error = f"{text}; what was there before stays in use"
        if self.error:
            _log.error("%s: %s", self._field, self.error)
        else:
            _log.info("%s: the new content is in use", self._field)

    def _files(self) -> Path:
        # Through the symlink once, so that no swap comes between two files of one version.
        data = self._directory / _DATA
        return data.resolve() if data.is_symlink() else self._directory

    def _version(self) -> _Version:
        try:
            return ((self._directory / _DATA).readlink(),)
        except OSError:
            return tuple(self._identities())  # not a kubelet's: each file on its own

    def _identities(self) -> list[tuple[str, int, int, int]]:
        found: list[tuple[str, int, int, int]] = []
        try:
            for path in sorted(self._directory.iterdir()):
                status = path.stat()
                found.append((path.name, status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            return found  # between two versions; reading it is what complains if it stays away
        return found


def _text(error: OSError) -> str:
    return f"{Path(error.filename).name}: {error.strerror}" if error.filename else str(error)
