"""Delivers one repository's state into the cache: waits for whoever does it, or does it."""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast

from llmservice_sidecar.fetch.cache import Snapshot, pin, pinned
from llmservice_sidecar.fetch.errors import Exit, FetchError, LeaseLost, disk_error
from llmservice_sidecar.fetch.lease import STALE_S, Lease, held
from llmservice_sidecar.fetch.sources import Listing, RemoteFile, Source
from llmservice_sidecar.fetch.verify import check_file, check_shards

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_AT_ONCE: Final = 4  # files
_ATTEMPTS: Final = 6
_SPARE_BYTES: Final = 64 * 1024 * 1024  # for markers, and for the file system itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to deliver. `holder` is this process's name among the replicas; times in seconds."""

    cache: Path
    pin: str
    holder: str
    stale_s: float = STALE_S
    first_wait_s: float = 1.0  # after a failure that may pass; doubles, up to a minute


class Delivery:
    """One repository on its way. `prepare` asks what there is, `run` brings it."""

    def __init__(self, source: Source, manner: Manner) -> None:
        self._source = source
        self._manner = manner
        self._place = manner.cache / source.place
        self._listing: Listing | None = None
        self._snapshot: Snapshot | None = None
        self.waits_for = ""  # the replica that downloads instead

    @property
    def directory(self) -> Path:
        """Where the files are; known after `prepare`."""
        return self._prepared.directory

    @property
    def commit(self) -> str:
        """The state's name; known after `prepare`."""
        return self._prepared.commit

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return self._listing.total_bytes if self._listing else self._prepared.total_bytes

    @property
    def present_bytes(self) -> int:
        """On disk now."""
        if self._listing is None:
            return self._prepared.total_bytes
        return self._prepared.present_bytes(self._listing)

    def prepare(self) -> None:
        """Find out which state to deliver; without network if it is there. Raises FetchError."""
        bound = self._source.commit or pinned(self._place, self._manner.pin)
        if bound is not None and Snapshot(self._place, bound).complete():
            self._snapshot = Snapshot(self._place, bound)
            return
        listing = self._again(lambda: self._source.list(bound))
        if self._source.commit is None:
            chosen = self._bind(listing.commit, instead_of=bound)
            if chosen != listing.commit:
                listing = self._again(lambda: self._source.list(chosen))
        self._listing = listing
        self._snapshot = Snapshot(self._place, listing.commit)

    def run(self) -> None:
        """Return when everything is there. Raises FetchError."""
        snapshot = self._prepared
        while not snapshot.complete():
            try:
                self._run_once(snapshot)
            except LeaseLost:
                _log.warning("another replica has taken over the download: waiting for it")
            except OSError as error:
                raise disk_error(error, self._manner.cache) from error

    def _run_once(self, snapshot: Snapshot) -> None:
        snapshot.directory.mkdir(parents=True, exist_ok=True)
        with held(
            snapshot.lease,
            holder=self._manner.holder,
            done=snapshot.complete,
            stale_s=self._manner.stale_s,
            waiting=self._note_owner,
        ) as lease:
            self.waits_for = ""
            if lease is not None and not snapshot.complete():
                self._download(snapshot, lease)

    def _download(self, snapshot: Snapshot, lease: Lease) -> None:
        listing = self._listing
        if listing is None:  # it was complete a moment ago, and somebody has removed it
            listing = self._listing = self._again(lambda: self._source.list(snapshot.commit))
        missing = listing.total_bytes - snapshot.present_bytes(listing)
        _check_room(snapshot.directory, missing)
        over = threading.Event()
        with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="fetch") as pool:
            largest_first = sorted(listing.files, key=lambda file: -file.size)
            jobs = [
                pool.submit(self._bring, snapshot, file, _Stop(over, lease))
                for file in largest_first
            ]
            finished, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            if any(job.exception() is not None for job in finished):
                over.set()  # the others end at their next chunk
                pool.shutdown(cancel_futures=True)
        _raise_cause([job.exception() for job in jobs if not job.cancelled()])
        check_shards(snapshot.directory, listing, uri=self._source.uri)
        snapshot.finish(listing, uri=self._source.uri)

    def _bring(self, snapshot: Snapshot, file: RemoteFile, stop: _Stop) -> None:
        target, part = snapshot.target(file), snapshot.part(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            try:
                check_file(target, file, uri=self._source.uri)
            except FetchError as error:
                _log.warning("%s: bringing it anew", error)
                target.unlink()
            else:
                return
        for last in (False, True):
            self._again(lambda: self._read(part, file, stop))
            try:
                check_file(part, file, uri=self._source.uri)
            except FetchError as error:
                part.unlink(missing_ok=True)
                if last:
                    raise
                _log.warning("%s: bringing it anew", error)
            else:
                break
        part.replace(target)

    def _read(self, part: Path, file: RemoteFile, stop: _Stop) -> None:
        # Not in append mode: two writers, should there ever be two, write the same bytes to the
        # same places.
        with part.open("r+b" if part.exists() else "w+b", buffering=0) as raw:
            offset = raw.seek(0, 2)
            if offset > file.size:
                offset = raw.truncate(raw.seek(0))
            if offset < file.size:
                self._source.read(file, cast("BinaryIO", _Guarded(raw, stop)), offset=offset)
            # Before the marker says that it is there: a node may lose power.
            os.fsync(raw.fileno())

    def _bind(self, commit: str, *, instead_of: str | None) -> str:
        try:
            return pin(self._place, self._manner.pin, commit, instead_of=instead_of)
        except OSError as error:
            raise disk_error(error, self._manner.cache) from error

    def _again(self, attempt: Callable[[], _T]) -> _T:
        """Repeat what may succeed a moment later, at ever longer intervals."""
        wait_s = self._manner.first_wait_s
        for left in range(_ATTEMPTS - 1, -1, -1):
            try:
                return attempt()
            except FetchError as error:
                if not error.again or left == 0:
                    raise
                _log.warning("%s; another attempt in %.0f s", error, wait_s)
            # With jitter: replicas that failed together must not come back together.
            time.sleep(wait_s * random.uniform(0.7, 1.3))  # noqa: S311 - no secret
            wait_s = min(60.0, wait_s * 2)
        raise AssertionError("the last attempt raises or returns")

    def _note_owner(self, owner: str) -> None:
        if self.waits_for != owner:
            _log.info("%s is being downloaded by %s: waiting", self._source.uri, owner)
        self.waits_for = owner

    @property
    def _prepared(self) -> Snapshot:
        assert self._snapshot is not None, "prepare first"
        return self._snapshot


@dataclass(frozen=True, slots=True)
class _Stop:
    over: threading.Event
    lease: Lease


class _Guarded:
    """A file that refuses to be written when the download is over or somebody else's."""

    def __init__(self, raw: Any, stop: _Stop) -> None:
        self._raw = raw
        self._stop = stop

    def write(self, chunk: bytes) -> int:
        if self._stop.lease.lost or self._stop.over.is_set():
            raise LeaseLost
        view = memoryview(chunk)
        while view:
            view = view[self._raw.write(view) :]
        return len(chunk)

    def tell(self) -> int:
        return self._raw.tell()

    def seek(self, to: int) -> int:
        return self._raw.seek(to)

    def truncate(self) -> int:
        return self._raw.truncate()


def _raise_cause(errors: Sequence[BaseException | None]) -> None:
    """Raise the first error; one that ended because of another only if there is no other."""
    there = [error for error in errors if error is not None]
    for error in sorted(there, key=lambda error: isinstance(error, LeaseLost)):
        raise error


def _check_room(directory: Path, missing: int) -> None:
    free = shutil.disk_usage(directory).free
    if missing and missing + _SPARE_BYTES > free:
        raise FetchError(
            f"{directory} has {free / 1e9:.1f} GB free and needs {missing / 1e9:.1f} GB more: "
            "give the model more room (spec.model.cache.size)",
            status=Exit.NO_ROOM,
        )
