"""Downloads that are cut, killed, and shared by pods that start together."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from fakes.hub_repositories import Repository
from fakes.hub_server import Hub, hub
from fakes.safetensors_files import model_files
from integration.fetch.running import Pod, wanted

# Larger than the pieces in which the client library hands it on, so that a part stays on disk.
FILES = model_files(45_000_000)
SIZE = len(FILES["model.safetensors"])
GET = "--get=model=hf://org/large"
# Where nobody is to take over: no beat of a busy machine is that late.
PATIENT = "--stale-seconds=600"


@pytest.fixture
def served() -> Generator[Hub]:
    with hub({"org/large": Repository.of(FILES)}) as running:
        yield running


def environment(served: Hub) -> dict[str, str]:
    return {"HF_ENDPOINT": served.url}


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def half_way(pod: Pod) -> bool:
    return any(path.stat().st_size > SIZE // 4 for path in pod.cache.rglob("*.part"))


def end(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=100)
    return process.returncode


def test_a_cut_connection_is_taken_up_where_it_ended(served: Hub, tmp_path: Path) -> None:
    served.faults.cut_after = [30_000_000]
    pod = Pod(tmp_path)
    assert pod.fetch(GET, environment=environment(served))[0] == 0
    assert pod.files() == wanted(FILES)
    assert served.served["model.safetensors"] < 2 * SIZE - 10_000_000


def test_a_killed_download_goes_on_in_the_restarted_container(served: Hub, tmp_path: Path) -> None:
    served.faults.hold_at = 30_000_000
    pod = Pod(tmp_path)
    killed = pod.start(GET, PATIENT, environment=environment(served))
    until(lambda: half_way(pod))
    killed.kill()
    end(killed)
    report = pod.report()
    assert report is not None
    assert report.phase == "Downloading"
    assert report.total_bytes > SIZE
    before = served.served["model.safetensors"]
    served.faults.hold_at = 0
    assert pod.fetch(GET, PATIENT, environment=environment(served))[0] == 0
    assert pod.files() == wanted(FILES)
    assert served.served["model.safetensors"] - before < SIZE - SIZE // 5


def test_pods_that_start_together_download_once(served: Hub, tmp_path: Path) -> None:
    served.faults.hold_at = 30_000_000
    cache = tmp_path / "shared"
    pods = [Pod(tmp_path, f"pod-{n}", cache=cache) for n in range(4)]
    running = [pod.start(GET, PATIENT, environment=environment(served)) for pod in pods]
    until(lambda: sum(_waits(pod) for pod in pods) == 3)
    served.faults.hold_at = 0
    assert [end(process) for process in running] == [0] * 4
    assert served.served["model.safetensors"] == SIZE
    assert all(pod.files() == wanted(FILES) for pod in pods)
    assert not list(cache.rglob("*.lease*"))
    assert not list(cache.rglob("*.part"))


def test_another_pod_takes_over_from_one_that_is_killed(served: Hub, tmp_path: Path) -> None:
    served.faults.hold_at = 30_000_000
    cache = tmp_path / "shared"
    first, second = (Pod(tmp_path, f"pod-{n}", cache=cache) for n in range(2))
    killed = first.start(GET, environment=environment(served))
    until(lambda: half_way(first))
    # It takes over from the dead; one that lives beats three times a second, however late once.
    waits = second.start(GET, "--stale-seconds=8", environment=environment(served))
    until(lambda: _waits(second))
    killed.kill()
    end(killed)
    before = served.served["model.safetensors"]
    served.faults.hold_at = 0
    assert end(waits) == 0
    assert second.files() == wanted(FILES)
    assert served.served["model.safetensors"] - before < SIZE
    report = second.report()
    assert report is not None
    assert report.phase == "Ready"


def _waits(pod: Pod) -> bool:
    report = pod.report()
    return report is not None and "downloads for all" in report.message
