"""The directory that replicas share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from llmservice_sidecar.fetch.cache import Snapshot, pin, pinned
from llmservice_sidecar.fetch.sources import Listing, RemoteFile

LISTING = Listing(commit="c1", files=(RemoteFile(path="a/m.json", size=4),))


def fill(snapshot: Snapshot, content: bytes = b"1234") -> None:
    target = snapshot.target(LISTING.files[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def test_only_the_marker_makes_it_complete(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path, "c1")
    assert not snapshot.complete()
    fill(snapshot)
    assert not snapshot.complete()
    snapshot.finish(LISTING, uri="hf://o/m")
    assert snapshot.complete()
    assert snapshot.total_bytes == snapshot.present_bytes(LISTING) == 4


@pytest.mark.parametrize("harm", ["removed", "cut", "marker spoilt"])
def test_a_marker_without_its_files_does_not_count(tmp_path: Path, harm: str) -> None:
    snapshot = Snapshot(tmp_path, "c1")
    fill(snapshot)
    snapshot.finish(LISTING, uri="hf://o/m")
    match harm:
        case "removed":
            snapshot.target(LISTING.files[0]).unlink()
        case "cut":
            fill(snapshot, b"12")
        case _:
            (tmp_path / "c1.json").write_bytes(b"{")
    assert not snapshot.complete()


def test_what_is_there_in_part_is_counted(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path, "c1")
    part = snapshot.part(LISTING.files[0])
    part.parent.mkdir(parents=True)
    part.write_bytes(b"12")
    assert snapshot.present_bytes(LISTING) == 2


def test_who_asks_with_the_same_pin_gets_what_the_first_has_bound(tmp_path: Path) -> None:
    assert pinned(tmp_path, "svc-1") is None
    assert pin(tmp_path, "svc-1", "old") == "old"
    assert pin(tmp_path, "svc-1", "new") == "old"
    assert pinned(tmp_path, "svc-1") == "old"
    assert pin(tmp_path, "svc-2", "new") == "new"


def test_a_pin_moves_when_its_state_is_no_longer_to_be_had(tmp_path: Path) -> None:
    pin(tmp_path, "svc", "gone")
    assert pin(tmp_path, "svc", "new", instead_of="gone") == "new"
    assert pinned(tmp_path, "svc") == "new"


def test_many_that_pin_at_once_agree(tmp_path: Path) -> None:
    def bind(number: int) -> str:
        return pin(tmp_path, "svc", f"c{number}")

    with ThreadPoolExecutor(16) as pool:
        bound = set(pool.map(bind, range(64)))
    assert len(bound) == 1
    assert [path.name for path in (tmp_path / "pins").iterdir()] == ["svc"]


def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    assert pin(tmp_path, "svc", "c1") == "c1"
    assert pinned(tmp_path, "svc") == "c1"
