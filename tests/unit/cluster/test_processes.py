"""Child processes of the test cluster: their logs, their end, and their parent's end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster.processes import Processes, StartError

_PARENT = """
import sys, time
from pathlib import Path
from cluster.processes import Processes
Processes(Path(sys.argv[1])).start("child", ["sh", "-c", "echo $$ > pid; exec sleep 600"])
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_process_that_ended_is_reported_with_its_last_words(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("brief", ["sh", "-c", "echo no such flag; exit 3"])
    error = first_error(processes)
    processes.stop()
    assert str(error) == "brief ended with status 3:\nno such flag"


def test_what_does_not_come_up_is_ended_and_says_why(tmp_path: Path) -> None:
    processes = Processes(tmp_path)

    def never() -> None:
        raise ConnectionRefusedError("nobody listens")

    command = ["sh", "-c", "echo $$ > pid; echo still loading; exec sleep 600"]
    with pytest.raises(StartError, match="slow not ready in 1 s: nobody listens\nstill loading"):
        processes.up("slow", command, never, within_s=1)
    assert not alive(wait_for_pid(tmp_path / "pid"))


def test_processes_of_a_killed_parent_end_too(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], env=environment
    ) as parent:
        pid = wait_for_pid(tmp_path / "pid")
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.01)


def first_error(processes: Processes) -> StartError:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            processes.check()
        except StartError as error:
            return error
        time.sleep(0.01)
    pytest.fail("the process did not end")


def wait_for_pid(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text(encoding="ascii").strip()):
        assert time.monotonic() < deadline, "the child did not start"
        time.sleep(0.01)
    return int(path.read_text(encoding="ascii"))
