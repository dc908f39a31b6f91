"""Who downloads: one process for all that share a directory, also over NFS.

A lock of the operating system is not kept by every network file system, and a file that only says
"locked" outlives its killed owner. So the owner of a lease writes a new number into it every few
seconds; whoever sees the same number for too long, by its own clock, takes the lease away. The
lease saves bandwidth only: two owners would write the same bytes to the same places.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

BEAT_S: Final = 5.0
STALE_S: Final = 30.0
_WIDTH: Final = 20  # digits of the number, so that a new one covers the old one


class Lease:
    """A held lease: renewed by a thread until it is released or taken away."""

    def __init__(self, path: Path, *, holder: str, beat_s: float) -> None:
        self._path = path
        self._text = f"{holder}\n{uuid.uuid4().hex}\n"
        self._beat_s = beat_s
        self._file: int | None = None
        self._over = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    @property
    def lost(self) -> bool:
        """Somebody else has taken it: this process was silent for too long."""
        return self._lost.is_set()

    def acquire(self) -> bool:
        """Try once. Raises OSError when the directory cannot be written."""
        try:
            self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o664)
        except FileExistsError:
            return False
        self._write(0)
        self._thread.start()
        return True

    def release(self) -> None:
        """Give it back; only if it is still ours."""
        self._over.set()
        self._thread.join()
        if self._file is None:
            return
        if self._is_ours():
            self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None

    def _beat(self) -> None:
        number = 0
        while not self._over.wait(self._beat_s):
            number += 1
            try:
                if not self._is_ours():
                    self._lost.set()
                    return
                self._write(number)
            except OSError as error:
                # The others will see a silent owner; the download fails by itself if it must.
                _log.warning("the lease %s cannot be renewed: %s", self._path, error)

    def _write(self, number: int) -> None:
        assert self._file is not None
        # Into the open file: one that has been taken away is no longer at the path.
        os.pwrite(self._file, f"{self._text}{number:0{_WIDTH}}\n".encode(), 0)
        os.fsync(self._file)

    def _is_ours(self) -> bool:
        try:
            return self._path.read_text().startswith(self._text)
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def held(
    path: Path,
    *,
    holder: str,
    done: Callable[[], bool],
    stale_s: float = STALE_S,
    waiting: Callable[[str], None] = lambda _: None,
) -> Generator[Lease | None]:
    """The lease, or None when `done` became true while others had it.

    `holder` names this process uniquely among those that may live at once: a lease that bears its
    own name was left behind by a process before it. `waiting` is told who holds it.
    Raises OSError when the directory cannot be written.
    """
    beat_s = min(BEAT_S, stale_s / 6)
    watch = _Watch(path, holder=holder, stale_s=stale_s)
    while not done():
        lease = Lease(path, holder=holder, beat_s=beat_s)
        if lease.acquire():
            try:
                yield lease
            finally:
                lease.release()
            return
        owner = watch.look()
        if owner is not None:
            waiting(owner)
            time.sleep(beat_s / 2)
    yield None


class _Watch:
    """Notices that the number in a lease does not change."""

    def __init__(self, path: Path, *, holder: str, stale_s: float) -> None:
        self._path = path
        self._holder = holder
        self._stale_s = stale_s
        self._seen = ""
        self._since = time.monotonic()

    def look(self) -> str | None:
        """Who holds the lease; None: nobody does any more, or it has just been taken away."""
        try:
            # Opened anew each time: NFS then asks its server.
            text = self._path.read_text()
        except FileNotFoundError:
            return None
        owner = text.partition("\n")[0]
        if text != self._seen:
            self._seen, self._since = text, time.monotonic()
        if owner != self._holder and time.monotonic() - self._since < self._stale_s:
            return owner or "another replica"
        self._take_away(text)
        return None

    def _take_away(self, text: str) -> None:
        aside = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}")
        try:
            self._path.rename(aside)
        except FileNotFoundError:
            return  # somebody was faster
        if aside.read_text() != text:
            # It is a successor's, made in between: put it back, unless there is yet another.
            with contextlib.suppress(FileExistsError):
                os.link(aside, self._path)
        else:
            _log.warning("%s was silent for too long: taking over", text.partition("\n")[0])
        aside.unlink()
