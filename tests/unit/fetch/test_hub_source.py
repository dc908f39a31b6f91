"""What of a hub is refused without asking it."""

from __future__ import annotations

import io

import pytest
from llmservice_sidecar.fetch.errors import Exit, FetchError
from llmservice_sidecar.fetch.hub import HubSource
from llmservice_sidecar.fetch.sources import RemoteFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def source(revision: str | None) -> HubSource:
    return HubSource("hf://org/name/", revision=revision, token=None, endpoint="http://127.0.0.1:1")


def test_only_a_whole_commit_cannot_move() -> None:
    assert source(COMMIT).commit == COMMIT
    assert source(None).commit is source("main").commit is source(COMMIT[:12]).commit is None


def test_repositories_have_places_of_their_own() -> None:
    assert source(None).place == "hf/org--name"


def test_a_file_that_hubs_do_not_serve_is_told() -> None:
    giant = RemoteFile(path="model.safetensors", size=60 * 10**9)
    with pytest.raises(FetchError, match=r"larger than the 50 GB") as refusal:
        source(None).read(giant, io.BytesIO(), offset=0)
    assert refusal.value.status is Exit.USAGE


def test_a_hub_that_cannot_be_reached_may_be_asked_again() -> None:
    with pytest.raises(FetchError, match="cannot be reached") as refusal:
        source(None).list(None)
    assert refusal.value.again
