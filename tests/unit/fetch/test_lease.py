"""Who downloads: leases of owners that live, die, and come back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from llmservice_sidecar.fetch.lease import Lease, held

STALE_S = 0.3


def never() -> bool:
    return False


def test_one_of_many_has_it_at_a_time(tmp_path: Path) -> None:
    inside, most, done = 0, 0, 0
    lock = threading.Lock()

    def work(name: str) -> None:
        nonlocal inside, most, done
        with held(tmp_path / "l", holder=name, done=never, stale_s=5) as lease:
            assert lease is not None
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1
                done += 1

    threads = [threading.Thread(target=work, args=(f"pod-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, done) == (1, 6)
    assert not list(tmp_path.iterdir())


def test_who_waits_leaves_when_the_work_is_done_by_another(tmp_path: Path) -> None:
    owner = Lease(tmp_path / "l", holder="a", beat_s=0.05)
    assert owner.acquire()
    finished = threading.Event()
    told: list[str] = []

    def waiting(name: str) -> None:
        told.append(name)
        finished.set()

    with held(
        tmp_path / "l", holder="b", done=finished.is_set, stale_s=5, waiting=waiting
    ) as lease:
        assert lease is None
    assert told == ["a"]
    owner.release()


def test_a_lease_of_a_killed_owner_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "l").write_text("killed\nsomebody\n00000000000000000007\n")
    with held(tmp_path / "l", holder="b", done=never, stale_s=STALE_S) as lease:
        assert lease is not None
        assert (tmp_path / "l").read_text().startswith("b\n")
    assert not list(tmp_path.iterdir())


def test_a_lease_that_is_renewed_is_not_taken(tmp_path: Path) -> None:
    owner = Lease(tmp_path / "l", holder="a", beat_s=STALE_S / 10)
    assert owner.acquire()
    until = time.monotonic() + 4 * STALE_S
    with held(
        tmp_path / "l", holder="b", done=lambda: time.monotonic() > until, stale_s=STALE_S
    ) as lease:
        assert lease is None
    assert not owner.lost
    owner.release()


def test_what_a_restarted_container_left_behind_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "l").write_text("pod-1\nits former life\n00000000000000000000\n")
    with held(tmp_path / "l", holder="pod-1", done=never, stale_s=3600) as lease:
        assert lease is not None


def test_an_owner_that_was_silent_for_too_long_notices(tmp_path: Path) -> None:
    silent = Lease(tmp_path / "l", holder="a", beat_s=0.05)
    assert silent.acquire()
    (tmp_path / "l").unlink()
    successor = Lease(tmp_path / "l", holder="b", beat_s=0.05)
    assert successor.acquire()
    deadline = time.monotonic() + 10
    while not silent.lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert silent.lost
    silent.release()
    assert (tmp_path / "l").read_text().startswith("b\n")
    successor.release()
