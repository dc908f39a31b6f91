"""One delivery from a source that a test holds in its hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from fakes.safetensors_files import safetensors
from llmservice_sidecar.fetch.cache import Snapshot
from llmservice_sidecar.fetch.delivery import Delivery, Manner
from llmservice_sidecar.fetch.errors import Exit, FetchError
from llmservice_sidecar.fetch.sources import Listing, RemoteFile

FILES = {"config.json": b"{}", "model.safetensors": safetensors(5000)}
BUSY = FetchError("the hub is busy", status=Exit.UNREACHABLE, again=True)
WRONG = FetchError("the token is wrong", status=Exit.NOT_ALLOWED)


class Shelf:
    """A source in memory. `before_read` may raise what goes wrong."""

    uri = "hf://org/model"
    place = "hf/org--model"
    commit: str | None = None

    def __init__(self, *troubles: FetchError, size: int | None = None) -> None:
        self.troubles = list(troubles)
        self.size = size
        self.listed = 0
        self.offsets: list[tuple[str, int]] = []
        self.before_read: Callable[[str, BinaryIO], None] = lambda _path, _to: None

    def list(self, commit: str | None) -> Listing:
        self.listed += 1
        if self.troubles:
            raise self.troubles.pop(0)
        files = tuple(
            RemoteFile(path=path, size=self.size or len(content))
            for path, content in sorted(FILES.items())
        )
        return Listing(commit=commit or "c1", files=files)

    def read(self, file: RemoteFile, to: BinaryIO, *, offset: int) -> None:
        self.offsets.append((file.path, offset))
        self.before_read(file.path, to)
        to.write(FILES[file.path][offset:])


def manner(cache: Path) -> Manner:
    return Manner(cache=cache, pin="p", holder="pod-1", stale_s=5, first_wait_s=0.01)


def test_all_is_there_and_a_second_delivery_asks_for_nothing(tmp_path: Path) -> None:
    shelf = Shelf()
    delivery = Delivery(shelf, manner(tmp_path))
    delivery.prepare()
    assert (delivery.commit, delivery.present_bytes) == ("c1", 0)
    delivery.run()
    there = {path.name: path.read_bytes() for path in delivery.directory.iterdir()}
    assert there == FILES
    assert delivery.present_bytes == delivery.total_bytes == sum(map(len, FILES.values()))
    again = Delivery(shelf, manner(tmp_path))
    again.prepare()
    again.run()
    assert again.total_bytes == again.present_bytes == delivery.total_bytes
    assert shelf.listed == 1


def test_what_may_pass_is_tried_again_and_what_may_not_is_not(tmp_path: Path) -> None:
    busy = Shelf(BUSY, BUSY)
    Delivery(busy, manner(tmp_path / "a")).prepare()
    assert busy.listed == 3
    wrong = Shelf(WRONG)
    with pytest.raises(FetchError, match="token is wrong"):
        Delivery(wrong, manner(tmp_path / "b")).prepare()
    assert wrong.listed == 1


def test_a_source_that_stays_busy_ends_the_attempt(tmp_path: Path) -> None:
    busy = Shelf(*[BUSY] * 100)
    with pytest.raises(FetchError) as refusal:
        Delivery(busy, manner(tmp_path)).prepare()
    assert refusal.value.status is Exit.UNREACHABLE
    assert busy.listed == 6


def test_a_file_that_breaks_off_is_taken_up_where_it_ended(tmp_path: Path) -> None:
    shelf = Shelf()
    broken = [FetchError("cut", status=Exit.UNREACHABLE, again=True)]

    def break_off(path: str, to: BinaryIO) -> None:
        if path == "model.safetensors" and broken:
            to.write(FILES[path][:1000])
            raise broken.pop()

    shelf.before_read = break_off
    delivery = Delivery(shelf, manner(tmp_path))
    delivery.prepare()
    delivery.run()
    assert [at for path, at in shelf.offsets if path == "model.safetensors"] == [0, 1000]
    assert (delivery.directory / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_the_cause_is_told_and_not_what_it_led_to(tmp_path: Path) -> None:
    shelf = Shelf()

    def refuse(path: str, to: BinaryIO) -> None:
        if path == "config.json":
            raise WRONG

    shelf.before_read = refuse
    delivery = Delivery(shelf, manner(tmp_path))
    delivery.prepare()
    with pytest.raises(FetchError, match="token is wrong"):
        delivery.run()
    assert not Snapshot(tmp_path / shelf.place, "c1").complete()
    assert not list(tmp_path.rglob("*.lease"))


def test_what_does_not_fit_is_told_before_anything_is_moved(tmp_path: Path) -> None:
    shelf = Shelf(size=10**17)
    delivery = Delivery(shelf, manner(tmp_path))
    delivery.prepare()
    with pytest.raises(FetchError, match=r"needs .* GB more") as refusal:
        delivery.run()
    assert refusal.value.status is Exit.NO_ROOM
    assert shelf.offsets == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(28, "No space left on device"), Exit.NO_ROOM, "is full"),
        (OSError(30, "Read-only file system"), Exit.NOT_ALLOWED, "group 65532"),
        (OSError(5, "Input/output error"), Exit.UNREACHABLE, "Input/output error"),
    ],
)
def test_a_disk_that_fails_is_told(tmp_path: Path, error: OSError, status: Exit, said: str) -> None:
    shelf = Shelf()

    def fail(path: str, to: BinaryIO) -> None:
        raise error

    shelf.before_read = fail
    delivery = Delivery(shelf, manner(tmp_path))
    delivery.prepare()
    with pytest.raises(FetchError, match=said) as refusal:
        delivery.run()
    assert refusal.value.status is status


def test_a_part_that_is_longer_than_the_file_is_begun_anew(tmp_path: Path) -> None:
    shelf = Shelf()
    delivery = Delivery(shelf, manner(tmp_path))
    delivery.prepare()
    part = delivery.directory / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(10_000))
    delivery.run()
    assert (delivery.directory / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_finished_file_that_is_spoilt_is_brought_anew(tmp_path: Path) -> None:
    shelf = Shelf()
    delivery = Delivery(shelf, manner(tmp_path))
    delivery.prepare()
    target = delivery.directory / "model.safetensors"
    target.parent.mkdir(parents=True)
    target.write_bytes(bytes(len(FILES["model.safetensors"])))
    delivery.run()
    assert target.read_bytes() == FILES["model.safetensors"]
