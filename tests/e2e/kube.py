"""A cluster seen through kubectl, in the few words that the end-to-end tests need."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MANIFESTS: Final = Path(__file__).parent / "manifests"
_POLL_S: Final = 0.3
_FORWARD_TIMEOUT_S: Final = 20.0


class KubeError(AssertionError):
    """A command failed or a wait ended in vain; the message shows what the cluster said."""


@dataclass(frozen=True, slots=True)
class Kube:
    """One cluster and one kubectl; every wait has a deadline."""

    kubectl: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: bytes | None = None, timeout_s: float = 120) -> str:
        """Run kubectl and return its output."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise KubeError(f"kubectl {' '.join(arguments)} failed: {said}")
        return done.stdout.decode(errors="replace")

    def apply(self, manifest: str) -> None:
        """Apply a manifest as a user would."""
        self.run("apply", "-f", "-", stdin=manifest.encode())

    def get(self, *arguments: str) -> dict[str, Any]:
        """One object or list; an absent object is a KubeError."""
        return json.loads(self.run("get", *arguments, "-o", "json"))

    def items(self, kinds: str, *arguments: str) -> list[str]:
        """The names, as kind/name, of all objects that `arguments` select."""
        return sorted(self.run("get", kinds, *arguments, "-o", "name").split())

    def wait_until(
        self, what: str, condition: Callable[[], bool], *, timeout_s: float, show: str = ""
    ) -> float:
        """Poll `condition`; the seconds it took, or KubeError with what `kubectl SHOW` prints."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > timeout_s:
                shown = f"\n{self.run(*show.split())}" if show else ""
                raise KubeError(f"waited {timeout_s:.0f} s in vain for: {what}{shown}")
            time.sleep(_POLL_S)
        return time.monotonic() - started

    def namespace(self, name: str, *, level: str) -> None:
        """Make a namespace in which Pod Security enforces `level`."""
        labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
        metadata = {"name": name, "labels": labels}
        self.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))

    def ready_condition(self, reference: str, namespace: str) -> Mapping[str, Any]:
        """The condition Ready of an object; empty while it has none."""
        status = self.get(reference, "-n", namespace).get("status", {})
        conditions = {entry["type"]: entry for entry in status.get("conditions", [])}
        return conditions.get("Ready", {})

    @contextmanager
    def forward(self, target: str, port: int, *, namespace: str) -> Generator[str]:
        """A port of a Service or pod as `127.0.0.1:PORT` on this machine."""
        command = self.command("port-forward", "-n", namespace, target, f":{port}")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if found is None:
                    raise KubeError(f"no port-forward to {target}: {line.strip()}")
                yield f"127.0.0.1:{found.group(1)}"
            finally:
                process.terminate()
                process.wait(timeout=_FORWARD_TIMEOUT_S)

    def command(self, *arguments: str) -> list[str]:
        """A command line of kubectl for this cluster."""
        return [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the tests are run against."""

    kube: Kube
    programs: dict[str, Path]
    jaeger_image: str
    other_engine: str  # the CPU engine's image under another name
    audit_log: Path | None  # what service accounts did; None: this cluster does not tell


def given_kubeconfig() -> Path | None:
    """The cluster that the caller names, if any."""
    given = os.environ.get("KUBECONFIG")
    return Path(given) if given else None
