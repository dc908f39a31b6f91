"""The directory that replicas share: one folder per repository and state, a marker written last.

    PLACE/COMMIT/           the files; `.part` while one is not whole
    PLACE/COMMIT.json       the marker: what is there, written when all of it is
    PLACE/COMMIT.lease      who downloads
    PLACE/pins/KEY          which state a moving name (a branch) stood for when KEY first asked

Files of one state never change, so whoever reads needs no lock.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Final

import msgspec

from llmservice_sidecar.fetch.sources import Listing, RemoteFile

_MARKER_VERSION: Final = 1


class _File(msgspec.Struct, frozen=True):
    path: str
    size: int


class _Marker(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    uri: str
    files: tuple[_File, ...]


class Snapshot:
    """One state of one repository in the cache."""

    def __init__(self, place: Path, commit: str) -> None:
        self.commit = commit
        self.directory = place / commit
        self.lease = place / f"{commit}.lease"
        self._marker = place / f"{commit}.json"

    def complete(self) -> bool:
        """Whether everything is there; a marker whose files are gone does not count."""
        marker = self._read_marker()
        if marker is None:
            return False
        return all(_size(self.directory / file.path) == file.size for file in marker.files)

    @property
    def total_bytes(self) -> int:
        """Of a complete state."""
        marker = self._read_marker()
        return sum(file.size for file in marker.files) if marker else 0

    def present_bytes(self, listing: Listing) -> int:
        """What of the files is on disk, whoever brought it."""
        return sum(self.present(file) for file in listing.files)

    def present(self, file: RemoteFile) -> int:
        """How much of a file is on disk, whole or in part."""
        whole = _size(self.target(file))
        return whole if whole is not None else min(_size(self.part(file)) or 0, file.size)

    def target(self, file: RemoteFile) -> Path:
        """Where the whole file belongs."""
        return self.directory / file.path

    def part(self, file: RemoteFile) -> Path:
        """Where it grows."""
        return self.directory / f"{file.path}.part"

    def finish(self, listing: Listing, *, uri: str) -> None:
        """Say that all is there. Raises OSError."""
        files = tuple(_File(file.path, file.size) for file in listing.files)
        marker = _Marker(version=_MARKER_VERSION, uri=uri, files=files)
        write_whole(self._marker, msgspec.json.encode(marker))

    def _read_marker(self) -> _Marker | None:
        try:
            marker = msgspec.json.decode(self._marker.read_bytes(), type=_Marker)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return marker if marker.version == _MARKER_VERSION else None


def pinned(place: Path, key: str) -> str | None:
    """The state that `key` was bound to; None: it was not."""
    try:
        return (place / "pins" / key).read_text().strip() or None
    except FileNotFoundError:
        return None


def pin(place: Path, key: str, commit: str, *, instead_of: str | None = None) -> str:
    """Bind `key` to a state and return it; who comes second gets what the first has bound.

    `instead_of` is a state that is no longer to be had. Raises OSError.
    """
    bound = pinned(place, key)
    if bound is not None and bound != instead_of:
        return bound
    target = place / "pins" / key
    if bound is not None:
        write_whole(target, commit.encode())
        return commit
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".{key}.{uuid.uuid4().hex}")
    made.write_text(commit)
    try:
        os.link(made, target)  # fails if it is there: exactly one of many succeeds
    except FileExistsError:
        return pinned(place, key) or commit
    except OSError:
        # A file system without hard links: the last one wins, within the same moment.
        made.replace(target)
        return commit
    finally:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()
    return commit


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see all of it or the one before it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with made.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
