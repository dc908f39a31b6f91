"""Why a model cannot be delivered, in words for a status, and the exit status that says so."""

from __future__ import annotations

import errno
from enum import IntEnum
from pathlib import Path
from typing import Final


class Exit(IntEnum):
    """Exit statuses of the program; documented in docs/models.md."""

    UNREACHABLE = 1  # network or server; another attempt may succeed
    USAGE = 2
    NOT_ALLOWED = 3
    NOT_FOUND = 4
    NO_SAFETENSORS = 5
    NO_ROOM = 6
    CORRUPT = 7


class FetchError(Exception):
    """A delivery that failed. `again`: the same attempt may succeed a moment later."""

    def __init__(self, message: str, *, status: Exit, again: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.again = again


class LeaseLost(Exception):
    """Another process has taken over the download; nothing is wrong with the files."""


_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}
_NO_RIGHT: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


def disk_error(error: OSError, where: Path) -> FetchError:
    """What an error of the file system means for the delivery."""
    if error.errno in _NO_ROOM:
        text = f"{where} is full: give the model more room (spec.model.cache.size)"
        return FetchError(text, status=Exit.NO_ROOM)
    if error.errno in _NO_RIGHT:
        text = (
            f"{error.filename or where} cannot be written: {error.strerror}; the claim of the "
            "cache must be writable by group 65532"
        )
        return FetchError(text, status=Exit.NOT_ALLOWED)
    text = f"{error.filename or where}: {error.strerror or error}"
    return FetchError(text, status=Exit.UNREACHABLE, again=True)
