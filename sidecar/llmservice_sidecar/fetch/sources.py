"""Where files come from: what a source must tell, and what of it is taken. No network here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import BinaryIO, Final, Protocol

from llmservice_sidecar.fetch.errors import Exit, FetchError

# Nothing that can run code when it is loaded: no pickles, no Python.
TAKEN: Final = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "*.txt",
)
_EXECUTABLE: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", "*.gguf")
# The same weights once more, for other programs.
_ELSEWHERE: Final = ("coreml", "metal", "onnx", "openvino", "original")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file. `digest` is `sha256:HEX` or `git:HEX` (a git blob's); None: nobody tells."""

    path: str  # relative, with /
    size: int  # bytes
    digest: str | None = None
    key: str = ""  # how the source names it, if not by path
    version: str = ""  # the source refuses to give another one (an ETag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All files of one unchanging state of a repository; `commit` names the state."""

    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files)


class Source(Protocol):
    """A repository of files."""

    uri: str
    place: str  # its directory in a cache, relative
    commit: str | None  # the state, if the URI's revision names one that cannot move

    def list(self, commit: str | None) -> Listing:
        """What there is at `commit`; None: now. Raises FetchError."""
        ...

    def read(self, file: RemoteFile, to: BinaryIO, *, offset: int) -> None:
        """Append the file from `offset` on. Raises FetchError, and what `to` raises."""
        ...


def chosen(files: Iterable[RemoteFile], *, uri: str) -> tuple[RemoteFile, ...]:
    """The files to take, in the order of their paths.

    Raises FetchError when there are no safetensors weights among them, or a path leads outside.
    """
    everything = sorted(files, key=lambda file: file.path)
    for file in everything:
        if file.path.startswith("/") or ".." in file.path.split("/"):
            raise FetchError(f"{uri}: a file is named {file.path!r}", status=Exit.CORRUPT)
    taken = tuple(file for file in everything if _is_taken(file.path))
    if not any(file.path.endswith(".safetensors") for file in taken):
        raise FetchError(_no_weights(everything, uri), status=Exit.NO_SAFETENSORS)
    return taken


def _is_taken(path: str) -> bool:
    folder, _, _ = path.partition("/")
    hidden = any(part.startswith(".") for part in path.split("/"))
    wanted = any(fnmatchcase(path, pattern) for pattern in TAKEN)
    return wanted and not hidden and (folder == path or folder not in _ELSEWHERE)


def _no_weights(files: Sequence[RemoteFile], uri: str) -> str:
    others = [
        file.path
        for file in files
        if any(fnmatchcase(file.path, pattern) for pattern in _EXECUTABLE)
    ]
    if others:
        return (
            f"{uri}: the weights are only there as {others[0]}, a format that is not taken; "
            "use a repository with *.safetensors files"
        )
    if not files:
        return f"{uri}: there are no files"
    return f"{uri}: there are no *.safetensors files among its {len(files)} files"
