"""The hook of a worker's pod, run as the kubelet runs it: it waits for the leader to drain."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from cluster.processes import free_ports
from fakes.manifests import SETTINGS, service
from fakes.reports import report
from golden.update import EQUIPPED
from llmservice_api import names
from llmservice_api.status_report import StatusReport
from llmservice_operator.desired import desired


def hook(port: int) -> list[str]:
    """The command, with a port that is this test's own."""
    wanted = service(parallelism={"pipeline": 2, "nodes": 2}, drainTimeoutSeconds=50)
    made = {one["kind"]: one for one in desired(wanted, SETTINGS, EQUIPPED)}
    worker = made["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]["workerTemplate"]
    command = worker["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "python"
    script = command[-1]
    assert f":{names.PORT_OPS}/status" in script
    return [sys.executable, "-c", script.replace(f":{names.PORT_OPS}/", f":{port}/")]


def leaving(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(hook(port), env=os.environ | {"LWS_LEADER_ADDRESS": "127.0.0.1"})


class Leader:
    """A leader's sidecar; `told` is its report, `asked` is set when somebody has read it."""

    def __init__(self, told: StatusReport) -> None:
        self.told = told
        self.asked = threading.Event()


@contextmanager
def answering(leader: Leader) -> Generator[int]:
    """Serve the leader's report; gives the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(msgspec.json.encode(leader.told))
            leader.asked.set()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's word
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def draining(queued: int) -> StatusReport:
    return msgspec.structs.replace(report(queued=queued), draining=True)


def test_a_worker_stays_until_the_leader_has_answered_everything() -> None:
    leader = Leader(draining(queued=3))
    with answering(leader) as port, leaving(port) as worker:
        assert leader.asked.wait(60)
        assert worker.poll() is None, "requests still wait at the leader"
        leader.told = draining(queued=0)
        assert worker.wait(60) == 0


def test_a_worker_does_not_wait_for_a_leader_that_is_gone() -> None:
    with leaving(*free_ports(1)) as worker:
        assert worker.wait(60) == 0
