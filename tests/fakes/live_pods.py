"""What a kubelet would report of pods, and a sidecar that all of them share.

No kubelet runs in the control plane of these tests: they write the pods' status themselves.
"""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from cluster.processes import Processes
from fakes.live_operator import View
from fakes.reports import report

Json = dict[str, Any]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # as a sidecar's: of 5, some of 32 that come at once wait for seconds


class SharedSidecar:
    """Answers `GET :9090/status` on one loopback address as the sidecar of every pod there.

    `backlog_s` is what it says of each, and may change while it answers.
    """

    def __init__(self, address: str, *, backlog_s: float = 0.0) -> None:
        self.address = address
        self.backlog_s = backlog_s
        sidecar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/status" else 404)
                self.end_headers()
                told = report(backlog_s=sidecar.backlog_s, queued=round(sidecar.backlog_s))
                self.wfile.write(msgspec.json.encode(told))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
                """Say nothing."""

        self._server = _Server((address, 9090), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def sidecar_process(address: str) -> Generator[None]:
    """A shared sidecar that answers whatever keeps this process busy."""
    tests = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as directory:
        processes = Processes(Path(directory))
        processes.up(
            "sidecar",
            ["env", f"PYTHONPATH={tests}", sys.executable, "-m", "fakes.live_pods", address],
            lambda: socket.create_connection((address, 9090)).close(),
            within_s=30,
        )
        try:
            yield
        finally:
            processes.stop()


def make_all_ready(view: View, address: str, *selected: str) -> int:
    """Let every pod of the namespace run and be ready at that address; how many there are.

    `selected`: options of kubectl for only some of them.
    """
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    addresses = {"podIP": address, "podIPs": [{"ip": address}]}
    status: Json = {"phase": "Running", "conditions": conditions, **addresses}
    pods = view.list("pods", *selected)
    for pod in pods:
        if pod["status"].get("podIP") != address:
            name = pod["metadata"]["name"]
            view.patch(f"pod/{name}", {"status": status}, "--subresource=status")
    return len(pods)


def is_ready(pod: Json) -> bool:
    """Whether a live pod is ready."""
    found = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in found)


if __name__ == "__main__":
    with SharedSidecar(sys.argv[1]):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
