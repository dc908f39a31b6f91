"""Whether a file is what its repository says it is."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from llmservice_sidecar.fetch.errors import Exit, FetchError
from llmservice_sidecar.fetch.sources import Listing, RemoteFile

_CHUNK_BYTES: Final = 4 * 1024 * 1024
_LARGEST_HEADER_BYTES: Final = 100_000_000  # the format's own bound


def check_file(path: Path, file: RemoteFile, *, uri: str) -> None:
    """Size, digest, and of safetensors the table of contents. Raises FetchError, OSError."""
    size = path.stat().st_size
    if size != file.size:
        raise _corrupt(uri, file, f"has {size} bytes instead of {file.size}")
    if file.digest is not None and (told := _digest(path, file)) != file.digest:
        raise _corrupt(uri, file, f"has the checksum {told} instead of {file.digest}")
    if file.path.endswith(".safetensors") and (why := _broken_safetensors(path, size)):
        raise _corrupt(uri, file, why)


def check_shards(directory: Path, listing: Listing, *, uri: str) -> None:
    """Every file that an index names is there. Raises FetchError, OSError."""
    there = {file.path for file in listing.files}
    for file in listing.files:
        if not file.path.endswith(".safetensors.index.json"):
            continue
        folder = file.path.rpartition("/")[0]
        for shard in _shards((directory / file.path).read_bytes(), uri, file):
            path = f"{folder}/{shard}" if folder else shard
            if path not in there:
                raise _corrupt(uri, file, f"names {path}, which the repository does not have")


def _shards(index: bytes, uri: str, file: RemoteFile) -> set[str]:
    try:
        decoded = msgspec.json.decode(index, type=dict[str, Any])
        return set(cast("Mapping[str, str]", decoded["weight_map"]).values())
    except (msgspec.DecodeError, KeyError, AttributeError, TypeError) as error:
        raise _corrupt(uri, file, "is no index of safetensors files") from error


def _digest(path: Path, file: RemoteFile) -> str:
    kind = (file.digest or "").partition(":")[0]
    if kind == "git":
        made = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    else:
        made = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            made.update(chunk)
    return f"{kind}:{made.hexdigest()}"


def _broken_safetensors(path: Path, size: int) -> str | None:
    with path.open("rb") as content:
        start = content.read(8)
        if len(start) < 8:
            return "is no safetensors file: it is too short"
        length: int = struct.unpack("<Q", start)[0]
        if length > min(_LARGEST_HEADER_BYTES, size - 8):
            return "is no safetensors file: its table of contents is longer than itself"
        table = content.read(length)
    try:
        entries = msgspec.json.decode(table, type=dict[str, dict[str, Any]])
        ends = [int(e["data_offsets"][1]) for name, e in entries.items() if name != "__metadata__"]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError):
        return "is no safetensors file: its table of contents cannot be read"
    if max(ends, default=0) != size - 8 - length:
        return "is cut off: its tensors end elsewhere than the file"
    return None


def _corrupt(uri: str, file: RemoteFile, why: str) -> FetchError:
    return FetchError(f"{uri}: {file.path} {why}", status=Exit.CORRUPT)
