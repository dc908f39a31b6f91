"""The engine as a child process: its command line, its failures and its end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from llmservice_lab.engine.process import (
    SIDECAR_SOURCES,
    EngineKind,
    EngineOptions,
    EngineProcess,
    EngineStartError,
    command_line,
)

pytestmark = pytest.mark.timeout(300)


def command(options: EngineOptions) -> list[str]:
    """The command line with fixed paths."""
    return command_line(options, python=Path("/py"), model=Path("/models/tiny"), port=8001)


def test_the_tiny_model_is_started_by_vllms_own_entry() -> None:
    line = command(EngineOptions(kind=EngineKind.TINY, max_num_seqs=8))
    assert line[:3] == ["/py", "-m", "vllm.entrypoints.launchers.api_server.entry"]
    assert {"--max-num-seqs=8", "--scheduling-policy=priority", "--port=8001"} <= {*line}


def test_the_callers_flags_come_last() -> None:
    line = command(EngineOptions(arguments=("--max-num-batched-tokens=256",)))
    assert line[-1] == "--max-num-batched-tokens=256"


def test_an_engine_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    options = EngineOptions(arguments=("--no-such-flag",))
    engine = EngineProcess(options, log_path=tmp_path / "engine.log")
    with pytest.raises(EngineStartError, match="unrecognized arguments: --no-such-flag"), engine:
        pass


def test_no_process_of_the_engine_outlives_its_block(engine_is_over: int) -> None:
    assert processes_of_group(engine_is_over) == []


def test_no_process_of_the_engine_outlives_its_parent(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, signal
        from llmservice_lab.engine.process import EngineOptions, EngineProcess
        with EngineProcess(EngineOptions()) as engine:
            print(engine.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    parent = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SIDECAR_SOURCES)},
    )
    group = int(parent.stdout)
    deadline = time.monotonic() + 20
    while processes_of_group(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of_group(group) == []


@pytest.fixture
def engine_is_over() -> int:
    """The process group of an engine that ran and was left."""
    with EngineProcess(EngineOptions()) as engine:
        group = engine.pid
        assert processes_of_group(group)
    return group


def processes_of_group(group: int) -> list[str]:
    """The names of what still runs in a process group; zombies have ended."""
    names: list[str] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # pid (name) state parent group ...; a name may contain spaces and parentheses.
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            state, _, of_group = rest.split()[:3]
            if of_group == str(group) and state != "Z":
                names.append(name)
    return names
