"""Child processes: their end is seen, their output kept, and they end with their parent."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest
from llmservice_local.pod import ProcessPlan
from llmservice_local.processes import ChildProcess

pytestmark = pytest.mark.timeout(30)


def plan(code: str) -> ProcessPlan:
    return ProcessPlan(
        name="engine", command=(sys.executable, "-c", code), environment={"WORD": "spoken"}
    )


async def started(code: str, directory: Path) -> ChildProcess:
    return await ChildProcess.start(plan(code), log=directory / "log", extra={"MORE": "too"})


async def line(child: ChildProcess, prefix: str) -> str:
    async with asyncio.timeout(20):
        while (found := child.line(prefix)) is None:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    return found


async def test_its_environment_its_output_and_its_end_are_seen(tmp_path: Path) -> None:
    code = "import os, sys; print('say', os.environ['WORD'], os.environ['MORE']); sys.exit(3)"
    child = await started(code, tmp_path)
    assert await child.wait() == 3
    assert child.ended
    assert child.line("say") == "say spoken too\n"
    failure = child.failure(3)
    assert "engine ended with code 3" in failure.cause
    assert "say spoken too" in failure.detail
    await child.stop(signal.SIGTERM, grace_s=1)


async def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(60)"
    )
    child = await started(code, tmp_path)
    await line(child, "deaf")
    began_s = time.monotonic()
    await child.stop(signal.SIGTERM, grace_s=0.2)
    assert child.ended
    assert time.monotonic() - began_s < 10


async def test_a_grandchild_neither_hides_the_end_nor_outlives_it(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys; "
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print('pid', grandchild.pid, flush=True)"
    )
    child = await started(code, tmp_path)
    assert await child.wait() == 0
    pid = int((await line(child, "pid")).split()[1])
    await child.stop(signal.SIGTERM, grace_s=1)
    async with asyncio.timeout(20):
        while alive(pid):  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(0.02)


async def test_errors_before_the_tail_are_shown_too(tmp_path: Path) -> None:
    code = "print('ERROR the cause'); [print('later', n) for n in range(100)]"
    child = await started(code, tmp_path)
    await child.wait()
    shown = child.tail().splitlines()
    assert shown[0] == "ERROR the cause"
    assert shown[-1] == "later 99"
    assert len(shown) == 31


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
