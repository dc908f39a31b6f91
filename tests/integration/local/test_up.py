"""`llmservice up` on real vLLM, as a person starts it: serves, drains, leaves nothing behind.

The model is replaced by a latency model of 10 ms a step; server, scheduler and sidecar are real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from llmservice_lab.engine.latency_model import LatencyModel
from openai import OpenAI

pytestmark = pytest.mark.timeout(240)

ROOT: Final = Path(__file__).parents[3]
START_TIMEOUT_S: Final = 120.0
END_TIMEOUT_S: Final = 60.0
EXECUTOR: Final = "llmservice_lab.engine.latency_executor.LatencyExecutor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """A running `llmservice up` and what it announced."""

    process: subprocess.Popen[str]
    addresses: dict[str, str]
    log: Path

    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.addresses['http']}/v1", api_key="none", max_retries=0)

    def children(self) -> list[int]:
        """Processes of both containers: they have this run's directory in their environment."""
        return processes_with(self.addresses["directory"])


@pytest.fixture(scope="module")
def service_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = yaml.safe_load((ROOT / "examples" / "tiny-cpu.yaml").read_text())
    engine = document["spec"]["engine"]
    engine["args"] = [f"--distributed-executor-backend={EXECUTOR}", *engine["args"]]
    latency = LatencyModel(step_s=0.010, per_decode_s=0.0, per_prefill_token_s=0.0)
    engine["env"] = [{"name": k, "value": v} for k, v in latency.to_environment().items()]
    path = tmp_path_factory.mktemp("service") / "service.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def running_up(service_file: Path, directory: Path) -> Generator[Up]:
    addresses, log = directory / "addresses.json", directory / "up.log"
    command = [sys.executable, "-m", "llmservice_local", "up", "-f", str(service_file)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--json", str(addresses)],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(directory)},
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (addresses.exists() and addresses.read_text().endswith("}\n")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Up(process=process, addresses=json.loads(addresses.read_text()), log=log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def test_it_serves_is_measured_and_finishes_a_stream_before_it_ends(
    service_file: Path, tmp_path: Path
) -> None:
    with running_up(service_file, tmp_path) as up:
        assert "is ready" in up.log.read_text()
        answer = up.client().completions.create(model="tiny", prompt="Hello", max_tokens=5)
        assert answer.usage is not None
        result = bench(up, tmp_path)
        assert result["lengths"] == "forced"
        assert result["errors"] == {}
        assert result["runs"][0]["completed"] == 18
        assert result["runs"][0]["queue_wait_s"]["mean"] is not None
        assert result["sent_late_max_s"] >= 0.0

        counted: list[int] = []
        begun = threading.Event()
        reader = threading.Thread(target=read_stream, args=(up, counted, begun))
        reader.start()
        assert begun.wait(30)
        up.process.send_signal(signal.SIGINT)
        reader.join(END_TIMEOUT_S)
        assert counted == [300]
        assert up.process.wait(END_TIMEOUT_S) == 0, up.log.read_text()
        assert "draining" in up.log.read_text()
        assert not Path(up.addresses["directory"]).exists()
        assert_gone(up)


def test_a_dead_engine_ends_it_with_the_log(service_file: Path, tmp_path: Path) -> None:
    with running_up(service_file, tmp_path) as up:
        engine = [pid for pid in up.children() if "api_server" in command_line(pid)]
        assert engine
        for pid in engine:
            os.kill(pid, signal.SIGKILL)
        assert up.process.wait(END_TIMEOUT_S) == 1
        said = up.log.read_text()
        assert "error: the engine ended with code" in said
        assert "next: " in said
        assert "Traceback (most recent call last)" not in said.partition("is ready")[2]
        assert_gone(up)


def test_killed_it_takes_its_processes_along(service_file: Path, tmp_path: Path) -> None:
    with running_up(service_file, tmp_path) as up:
        assert up.children()
        up.process.kill()
        up.process.wait(10)
        assert_gone(up)


def test_a_model_that_is_nowhere_is_named_with_the_mount_to_give(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "examples" / "tiny-cpu.yaml").read_text())
    document["spec"]["model"]["uri"] = "file:///models/absent"
    path = tmp_path / "service.yaml"
    path.write_text(yaml.safe_dump(document))
    failed = subprocess.run(
        [sys.executable, "-m", "llmservice_local", "up", "-f", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert failed.returncode == 1
    assert "/models/absent" in failed.stderr
    assert "--mount /models=" in failed.stderr


def bench(up: Up, directory: Path) -> dict[str, Any]:
    workload, result = directory / "w.jsonl", directory / "bench.json"
    rows: Sequence[dict[str, object]] = [
        {
            "arrival_s": number * 0.05,
            "prompt": f"Question {number}?",
            "prompt_tokens": 4,
            "output_tokens": 5 + number % 7,
        }
        for number in range(20)
    ]
    workload.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = [sys.executable, "-m", "llmservice_local", "bench", "--json", str(result)]
    subprocess.run(
        [*command, "--target", up.addresses["http"], "--workload", str(workload)],
        check=True,
        timeout=60,
    )
    return json.loads(result.read_text())


def read_stream(up: Up, counted: list[int], begun: threading.Event) -> None:
    stream = up.client().chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "A long one"}],
        max_tokens=400,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"vllm_xargs": {"out_len": 300}},
    )
    for event in stream:
        begun.set()
        if event.usage is not None:
            counted.append(event.usage.completion_tokens)


def assert_gone(up: Up) -> None:
    deadline = time.monotonic() + END_TIMEOUT_S
    while left := up.children():
        assert time.monotonic() < deadline, [command_line(pid) for pid in left]
        time.sleep(0.1)


def processes_with(text: str) -> list[int]:
    """Ids of processes whose command line or environment has `text`, but for this one's."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            known = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile
        if text.encode() in known:
            found.append(int(entry.name))
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""
