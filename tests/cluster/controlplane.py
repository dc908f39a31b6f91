"""A real API server for tests: etcd, kube-apiserver and kube-controller-manager without root.

There is no scheduler and no kubelet, so no pod ever runs; everything that the API server and its
controllers do is real: CRDs, CEL, server-side apply, garbage collection, service accounts.

    with control_plane() as plane:
        subprocess.run(["kubectl", "get", "namespaces"], env=os.environ | plane.environment)

    python -m cluster.controlplane      # holds one until Ctrl-C and prints its KUBECONFIG
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from cluster import flags, pki
from cluster.processes import Processes, free_ports
from cluster.tools import CONTROL_PLANE, ensure

_READY_TIMEOUT_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane; `kubeconfig` has the rights of a cluster administrator."""

    kubeconfig: Path
    server: str
    directory: Path
    programs: dict[str, Path]

    @property
    def environment(self) -> dict[str, str]:
        """What kubectl and other clients need to find it."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return its output; CalledProcessError carries its stderr."""
        done = subprocess.run(
            [str(self.programs["kubectl"]), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout


@contextmanager
def control_plane(*, directory: Path | None = None) -> Generator[ControlPlane]:
    """A control plane on free loopback ports, ready in about ten seconds, gone on exit.

    Logs and keys are in `directory` (default: a temporary one that is removed). Raises ToolsError
    when a program can be neither found nor built, StartError with a log when one does not start.
    """
    programs = ensure(CONTROL_PLANE)
    with tempfile.TemporaryDirectory(prefix="llmservice-plane-") as temporary:
        home = directory or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        processes = Processes(home)
        try:
            yield _start(home, programs, processes)
        finally:
            processes.stop()


def _start(home: Path, programs: dict[str, Path], processes: Processes) -> ControlPlane:
    etcd_port, peer_port, api_port = free_ports(3)
    layout = flags.Layout(
        keys=home / "pki",
        state=home,
        bind_address="127.0.0.1",
        api_port=api_port,
        etcd_port=etcd_port,
        peer_port=peer_port,
    )
    authority = pki.new_authority(layout.keys)
    pki.signing_key(layout.keys / "sa.key")
    authority.issue("apiserver", user="kube-apiserver", hosts=("127.0.0.1", "localhost"))
    admin = authority.issue("admin", user="admin", groups=("system:masters",))
    manager = authority.issue("manager", user="system:kube-controller-manager")
    server = f"https://127.0.0.1:{api_port}"
    kubeconfig = authority.kubeconfig(home / "kubeconfig", server=server, certificate=admin)
    manager_config = home / "manager.kubeconfig"
    authority.kubeconfig(manager_config, server=server, certificate=manager)

    processes.start("etcd", [str(programs["etcd"]), *flags.etcd(layout)])
    processes.start("kube-apiserver", [str(programs["kube-apiserver"]), *_apiserver(layout)])
    plane = ControlPlane(kubeconfig=kubeconfig, server=server, directory=home, programs=programs)
    context = ssl.create_default_context(cafile=str(authority.path))
    context.load_cert_chain(*(str(path) for path in admin))

    def ready(path: str) -> None:
        processes.wait(
            "kube-apiserver",
            lambda: _read(f"{server}{path}", context),
            within_s=_READY_TIMEOUT_S,
        )

    ready("/readyz")
    processes.start(
        "kube-controller-manager",
        [
            str(programs["kube-controller-manager"]),
            *flags.controller_manager(layout, manager_config),
            # Of the minutes that scaling takes, tests are about its steps.
            "--horizontal-pod-autoscaler-sync-period=1s",
        ],
    )
    # The controllers work once the default namespace has got its service account.
    ready("/api/v1/namespaces/default/serviceaccounts/default")
    return plane


def _apiserver(layout: flags.Layout) -> list[str]:
    return [
        *flags.apiserver(layout),
        "--authorization-mode=RBAC",
        # The address in the `kubernetes` endpoint; loopback is refused there, and nobody uses it.
        "--advertise-address=192.0.2.1",
        "--endpoint-reconciler-type=none",
    ]


def _read(url: str, context: ssl.SSLContext) -> None:
    with urllib.request.urlopen(url, timeout=5, context=context):
        return


def main() -> int:
    """Hold a control plane until SIGINT or SIGTERM."""
    done = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        done.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    started = time.monotonic()
    with control_plane() as plane:
        print(f"# ready in {time.monotonic() - started:.1f} s; Ctrl-C ends it", file=sys.stderr)
        print(f"export KUBECONFIG={plane.kubeconfig}", flush=True)
        done.wait()
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
