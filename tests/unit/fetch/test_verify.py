"""Files that are not what they should be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from fakes.safetensors_files import safetensors
from llmservice_sidecar.fetch.errors import Exit, FetchError
from llmservice_sidecar.fetch.sources import Listing, RemoteFile
from llmservice_sidecar.fetch.verify import check_file, check_shards

GOOD = safetensors(1000)


def written(folder: Path, content: bytes, name: str = "m.safetensors") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def remote(content: bytes, *, name: str = "m.safetensors", digest: str | None = None) -> RemoteFile:
    return RemoteFile(path=name, size=len(content), digest=digest)


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:" + hashlib.sha256(GOOD).hexdigest(),
        "git:" + hashlib.sha1(b"blob %d\0" % len(GOOD) + GOOD).hexdigest(),
        None,
    ],
)
def test_a_whole_file_passes(tmp_path: Path, digest: str | None) -> None:
    check_file(written(tmp_path, GOOD), remote(GOOD, digest=digest), uri="hf://o/m")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(GOOD[:-1], "bytes instead of", id="too short"),
        pytest.param(bytes(len(GOOD)), "checksum", id="zeros after a crash"),
    ],
)
def test_a_file_that_differs_from_what_was_listed_is_told(
    tmp_path: Path, content: bytes, said: str
) -> None:
    listed = remote(GOOD, digest="sha256:" + hashlib.sha256(GOOD).hexdigest())
    with pytest.raises(FetchError, match=said) as refusal:
        check_file(written(tmp_path, content), listed, uri="hf://o/m")
    assert refusal.value.status is Exit.CORRUPT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"<html>", "too short", id="an error page"),
        pytest.param(b"<html>not found</html>", "longer than itself", id="a long error page"),
        pytest.param(GOOD[:-100], "cut off", id="cut off"),
        pytest.param(GOOD[:8] + b"x" * (len(GOOD) - 8), "cannot be read", id="no contents"),
    ],
)
def test_without_a_checksum_the_format_itself_tells(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(FetchError, match=said):
        check_file(written(tmp_path, content), remote(content), uri="s3://b/k")


def index(*shards: str) -> bytes:
    return json.dumps({"weight_map": {f"w{n}": shard for n, shard in enumerate(shards)}}).encode()


def test_a_shard_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    name = "model.safetensors.index.json"
    content = index("a.safetensors", "b.safetensors")
    written(tmp_path, content, name)
    listed = (remote(content, name=name), remote(GOOD, name="a.safetensors"))
    with pytest.raises(FetchError, match=r"names b\.safetensors"):
        check_shards(tmp_path, Listing(commit="c", files=listed), uri="hf://o/m")
    whole = (*listed, remote(GOOD, name="b.safetensors"))
    check_shards(tmp_path, Listing(commit="c", files=whole), uri="hf://o/m")


def test_an_index_that_is_none_is_told(tmp_path: Path) -> None:
    name = "model.safetensors.index.json"
    written(tmp_path, b"[]", name)
    with pytest.raises(FetchError, match="is no index"):
        check_shards(tmp_path, Listing(commit="c", files=(remote(b"[]", name=name),)), uri="u")
