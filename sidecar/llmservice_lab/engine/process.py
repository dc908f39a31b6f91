"""Start a real vLLM server as a child process and take it down again, for tests and measurements.

Knows nothing of the sidecar: what stands in front of the engine is the caller's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from llmservice_lab.engine.cpu import (
    CPU_ARGUMENTS,
    ENTRY_MODULE,
    FORCED_LENGTH,
    engine_environment,
)
from llmservice_lab.engine.environment import ensure_engine_python
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.tiny_model import ensure_tiny_model

SIDECAR_SOURCES: Final = Path(__file__).parents[2]

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_GRACE_S: Final = 10.0
# A proxy from the environment must not see loopback.
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EngineKind(Enum):
    """Which engine to start."""

    TINY = "tiny"  # the tiny model, started as the operator's pod starts vLLM
    LATENCY = "latency"  # the same server and scheduler, the model replaced by a latency model


class EngineStartError(RuntimeError):
    """The engine did not become healthy; the message ends with its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What may differ between two engines."""

    kind: EngineKind = EngineKind.LATENCY
    max_num_seqs: int = 4
    max_model_len: int = 2048
    served_name: str = "tiny"
    scheduling_policy: str = "priority"
    latency: LatencyModel = field(default_factory=LatencyModel)
    arguments: tuple[str, ...] = ()  # more vLLM flags; a later flag wins over an earlier one
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    start_timeout_s: float = 180.0


class EngineProcess:
    """A running engine on a free loopback port, from `with` to its end.

    It ends with the block, and with the thread that entered the block: an interrupted test run
    leaves no engine behind. Raises EngineStartError, EngineEnvironmentError.
    """

    def __init__(self, options: EngineOptions, *, log_path: Path | None = None) -> None:
        self.options = options
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.model = options.served_name
        self.log_path = log_path or _new_log(options.kind)
        self._keeps_log = log_path is not None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id, which is its process group's too."""
        if self._process is None:
            raise RuntimeError("the engine is not running: use it as a context manager")
        return self._process.pid

    def __enter__(self) -> Self:
        python = ensure_engine_python(log=lambda text: print(text, file=sys.stderr))
        command = command_line(
            self.options, python=python, model=ensure_tiny_model(python), port=self.port
        )
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a command line made above
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self.options),
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no lock taken
            )
        try:
            self._await_health()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        # A log that nobody asked for is worth keeping only when something went wrong.
        if error is None and not self._keeps_log:
            self.log_path.unlink()

    def stop(self) -> None:
        """End the whole process group: politely, after ten seconds by force. Twice is once."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        # Also when the server has ended: an orphaned engine process may be left of the group.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the engine's output, after all lines of it that name an error."""
        text = self.log_path.read_text(errors="replace").splitlines()
        errors = [line for line in text[:-lines] if "ERROR" in line or "Error:" in line]
        return "\n".join([*errors[-lines:], *text[-lines:]])

    def _await_health(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.options.start_timeout_s
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise EngineStartError(f"the engine ended with code {code}\n{self.log_tail()}")
            if _healthy(self.url):
                return
            time.sleep(0.05)
        raise EngineStartError(
            f"the engine was not healthy after {self.options.start_timeout_s:g} s; "
            f"its log is {self.log_path}\n{self.log_tail()}"
        )


def command_line(options: EngineOptions, *, python: Path, model: Path, port: int) -> list[str]:
    """The engine's command line."""
    if options.kind is EngineKind.LATENCY:
        latency = options.latency
        start = [
            *("-m", "llmservice_lab.engine.serve", "--executor=latency"),
            f"--step-ms={latency.step_s * 1e3!r}",
            f"--decode-ms={latency.per_decode_s * 1e3!r}",
            f"--prefill-token-ms={latency.per_prefill_token_s * 1e3!r}",
            f"--mean-output-tokens={latency.mean_output_tokens!r}",
        ]
    else:
        start = ["-m", ENTRY_MODULE]
    return [
        *(str(python), *start),
        *(f"--model={model}", f"--served-model-name={options.served_name}"),
        *("--host=127.0.0.1", f"--port={port}"),
        f"--max-num-seqs={options.max_num_seqs}",
        f"--max-model-len={options.max_model_len}",
        f"--scheduling-policy={options.scheduling_policy}",
        f"--logits-processors={FORCED_LENGTH}",
        *CPU_ARGUMENTS,
        *options.arguments,
    ]


def _environment(options: EngineOptions) -> dict[str, str]:
    ours = {"PYTHONUNBUFFERED": "1"}
    return engine_environment([SIDECAR_SOURCES]) | ours | dict(options.environment)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # all of it has ended, which is what the signal is for


def _healthy(url: str) -> bool:
    try:
        with _DIRECT.open(f"{url}/health", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _new_log(kind: EngineKind) -> Path:
    handle, name = tempfile.mkstemp(prefix=f"llmservice-engine-{kind.value}-", suffix=".log")
    os.close(handle)
    return Path(name)
