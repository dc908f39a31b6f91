"""The activator as a process of its own, and the pod that stands for it in a control plane."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml
from fakes.live_operator import View

Json = dict[str, Any]

LABELS: Final = {"app.kubernetes.io/component": "activator"}
SELECTOR: Final = ",".join(f"{key}={value}" for key, value in LABELS.items())
_START_S: Final = 30.0


class LiveActivator:
    """`python -m llmservice_sidecar.activator`; runs while its `with` block lasts."""

    def __init__(self, operator_url: str, log: Path, *arguments: str, host: str) -> None:
        self._command = [
            *(sys.executable, "-m", "llmservice_sidecar.activator"),
            *(f"--operator-url={operator_url}", f"--host={host}", *arguments),
        ]
        self.log = log
        self.ops_port = 0

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, env=os.environ
            )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_S)
        line = self._process.stdout.readline() if ready else b""
        assert line, self.log.read_text()
        self.ops_port = int(json.loads(line)["ops_port"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self.ended()

    def terminate(self) -> None:
        """As the kubelet does: it drains."""
        self._process.send_signal(signal.SIGTERM)

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def ended(self, within_s: float = 20.0) -> int:
        """Wait for its end; the exit status."""
        assert self._process.stdout is not None
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()


def make_activator_pod(view: View, address: str, *, name: str = "activator-0") -> None:
    """A pod of an activator that runs and is ready at this address."""
    manifest: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {"containers": [{"name": "activator", "image": "none"}]},
    }
    view.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    addresses = {"podIP": address, "podIPs": [{"ip": address}]}
    status = {"phase": "Running", "conditions": [ready], **addresses}
    view.patch(f"pod/{name}", {"status": status}, "--subresource=status")


def own_address() -> str:
    """An address of this machine that is not its loopback: an EndpointSlice takes no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])
