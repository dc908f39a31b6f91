"""The sidecar as a real process: `python -m llmservice_sidecar --config-dir DIR`, as in a pod."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from llmservice_api.sidecar_config import LiveConfig, StaticConfig, encode_config
from llmservice_api.status_report import StatusReport, decode_report

_START_S: Final = 30.0
_END_S: Final = 10.0
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Ports:
    """What the process says that it listens on."""

    http_port: int
    grpc_port: int
    ops_port: int
    admin_port: int


@dataclass
class SidecarProcess:
    """Runs while its `with` block lasts. `directory` holds its two configuration files and log."""

    static: StaticConfig
    directory: Path
    live: LiveConfig = field(default_factory=LiveConfig)
    program: tuple[str, ...] = ("-m", "llmservice_sidecar")  # for Python
    environ: Mapping[str, str] = field(default_factory=lambda: {"OTEL_BSP_SCHEDULE_DELAY": "500"})

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "static.json").write_text(encode_config(self.static))
        self.apply(self.live)
        self.log_path = self.directory / "sidecar.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "--config-dir", str(self.directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "POD_NAME": "chat-0", "POD_NAMESPACE": "team", **self.environ},
            )
        try:
            self.ports = self._announced()
            self._await_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def http(self) -> str:
        """Base address of the OpenAI door."""
        return f"http://127.0.0.1:{self.ports.http_port}"

    @property
    def grpc(self) -> str:
        """Target of the gRPC door."""
        return f"127.0.0.1:{self.ports.grpc_port}"

    @property
    def ops(self) -> str:
        """Base address of metrics, probes and status."""
        return f"http://127.0.0.1:{self.ports.ops_port}"

    @property
    def admin(self) -> str:
        """Base address of drain."""
        return f"http://127.0.0.1:{self.ports.admin_port}"

    def apply(self, live: LiveConfig) -> None:
        """Write `live.json` as a kubelet does: a rename, so that no reader sees half of it."""
        fresh = self.directory / "live.json.new"
        fresh.write_text(encode_config(live))
        fresh.rename(self.directory / "live.json")

    def status(self) -> StatusReport:
        """What the operator would read."""
        return decode_report(self.get("/status"))

    def get(self, path: str, **headers: str) -> bytes:
        """A page of the ops port."""
        request = urllib.request.Request(f"{self.ops}{path}", headers=headers)
        with _DIRECT.open(request, timeout=10) as response:
            return response.read()

    def await_status(self, what: str, *, timeout_s: float = 10.0, **figures: int) -> None:
        """Block until the queue's report has these figures; AssertionError with what it has."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            queue = self.status().queue
            if all(getattr(queue, name) == value for name, value in figures.items()):
                return
            time.sleep(0.02)
        raise AssertionError(
            f"{what}: not within {timeout_s} s; the queue is {self.status().queue}"
        )

    def log(self) -> str:
        """What the process has logged so far."""
        return self.log_path.read_text(errors="replace")

    def _announced(self) -> Ports:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], _START_S)
        line = self.process.stdout.readline() if ready else b""
        try:
            return msgspec.convert(json.loads(line), Ports)
        except ValueError as error:
            raise AssertionError(f"no ports in {line!r}; log:\n{self.log()}") from error

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            try:
                self.get("/readyz")
            except urllib.error.HTTPError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"not ready within {_START_S} s; log:\n{self.log()}")

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # SIGTERM would drain first
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()
