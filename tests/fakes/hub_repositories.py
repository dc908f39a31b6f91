"""What a model hub has, and what goes wrong with it: standard library only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

LARGE_BYTES = 10_000  # from here on a file is served by the other host


@dataclass
class Repository:
    """A repository with one commit per entry of `commits`; `branches` lead to them."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str] = field(default_factory=dict[str, str])
    token: str | None = None  # who reads needs it
    gated: bool = False

    @classmethod
    def of(cls, files: dict[str, bytes], *, token: str | None = None, gated: bool = False):
        """One commit that `main` leads to."""
        commit = commit_of(files)
        return cls({commit: files}, {"main": commit}, token, gated)

    def find(self, revision: str) -> str | None:
        """The commit of a revision."""
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


def commit_of(files: dict[str, bytes]) -> str:
    """A name for these files that looks like a commit."""
    told = b"".join(path.encode() + content for path, content in sorted(files.items()))
    return hashlib.sha1(told).hexdigest()


@dataclass
class Faults:
    """What goes wrong."""

    hold_at: int = 0  # from this byte of an answer on it only trickles, until this is 0 again
    unavailable: int = 0  # so many answers are 503
    cut_after: list[int] = field(default_factory=list[int])  # bytes, of one connection each
    spoilt: set[str] = field(default_factory=set[str])  # paths whose content is wrong


def entry(path: str, content: bytes) -> dict[str, object]:
    """A file as the API lists it."""
    entry: dict[str, object] = {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": git_id(content),
    }
    if len(content) >= LARGE_BYTES:
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry


def git_id(content: bytes) -> str:
    """The id of a git blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
