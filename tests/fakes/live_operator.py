"""The operator as a process of its own, and a view of the cluster that it works on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cluster.controlplane import ControlPlane
from cluster.processes import free_ports

T = TypeVar("T")
Json = dict[str, Any]

OWNED = (
    "deployment/{name}",
    "service/{name}",
    "service/{name}-headless",
    "configmap/{name}-config",
    "serviceaccount/{name}",
    "poddisruptionbudget/{name}",
)


class LiveOperator:
    """`python -m llmservice_operator` against a control plane; its log is in `log`."""

    def __init__(
        self, plane: ControlPlane, *arguments: str, kubeconfig: Path | None = None
    ) -> None:
        environment = os.environ | plane.environment
        if kubeconfig is not None:
            environment["KUBECONFIG"] = str(kubeconfig)
        self.port, self.http_port = free_ports(2)
        with tempfile.NamedTemporaryFile("wb", prefix="operator-", delete=False) as log:
            self.log = Path(log.name)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llmservice_operator", f"--liveness-port={self.port}",
                 f"--http-port={self.http_port}",
                 # Its own, unless a test is about several that share one.
                 f"--lease=operator-{self.http_port}",
                 # A machine that runs the whole suite may keep it waiting for long.
                 "--lease-seconds=60", *arguments],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Any signal."""
        self._process.send_signal(number)

    def metrics(self) -> str:
        """The page that Prometheus reads."""
        url = f"http://127.0.0.1:{self.http_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            return page.read().decode()

    def backlog(self, namespace: str, name: str) -> Json:
        """What an autoscaler is told; empty while that is not known."""
        query = urllib.parse.urlencode({"namespace": namespace, "name": name})
        url = f"http://127.0.0.1:{self.http_port}/backlog?{query}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code in {404, 503}:
                return {}
            raise

    def kill(self) -> None:
        """As the kernel does when memory is short: no chance to finish anything."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=10)

    def stop(self) -> int:
        """As the kubelet does; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def ended(self) -> int | None:
        """The exit code of an operator that has ended by itself."""
        return self._process.poll()


class View:
    """One namespace through kubectl."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return self.plane.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def apply(self, name: str = "svc", **spec: Any) -> None:
        """Create or change an LLMService; a file model on CPU unless told otherwise."""
        self.apply_all({name: spec})

    def apply_all(self, specs: dict[str, Json]) -> None:
        """Several at once."""
        manifests = [
            {
                "apiVersion": "llmservice.dev/v1alpha1",
                "kind": "LLMService",
                "metadata": {"name": name},
                "spec": {
                    "model": {"uri": "file:///models/m"},
                    "engine": {"device": "CPU", "maxNumSeqs": 4},
                    **spec,
                },
            }
            for name, spec in specs.items()
        ]
        self.kubectl(
            "apply", "--server-side", "--field-manager=user", "-f", "-",
            stdin=yaml.safe_dump_all(manifests),
        )  # fmt: skip

    def patch(self, target: str, patch: Json, *options: str) -> None:
        """A merge patch, as a person would do it."""
        self.kubectl("patch", target, "--type=merge", "-p", json.dumps(patch), *options)

    def get(self, target: str, *options: str) -> Json:
        """One object, empty when there is none."""
        said = self.kubectl("get", target, "-o", "json", "--ignore-not-found", *options)
        return json.loads(said) if said else {}

    def list(self, kinds: str, *options: str) -> list[Json]:
        """All objects of some kinds."""
        return json.loads(self.kubectl("get", kinds, "-o", "json", *options))["items"]

    def condition(self, kind: str, *, name: str = "svc") -> Json:
        """One condition of an LLMService, empty when it is not there yet."""
        status: Json = self.get(f"llmsvc/{name}").get("status", {})
        conditions: list[Json] = status.get("conditions", [])
        return next((entry for entry in conditions if entry["type"] == kind), Json())

    def reason(self, kind: str, *, name: str = "svc") -> tuple[str, str]:
        """Status and reason of a condition."""
        found = self.condition(kind, name=name)
        return found.get("status", ""), found.get("reason", "")

    def exist(self, name: str = "svc") -> bool:
        """Whether everything that a service owns is there."""
        targets = [target.format(name=name) for target in OWNED]
        said = self.kubectl("get", *targets, "-o", "name", "--ignore-not-found")
        return len(said.split()) == len(OWNED)

    def versions(self) -> dict[str, str]:
        """The version of every object in the namespace that the operator could have written."""
        kinds = "llmsvc,deploy,svc,cm,sa,pdb,rs,pods"
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for item in self.list(kinds)
        }


def eventually(
    look: Callable[[], T], *, until: Callable[[T], bool] = bool, within_s: float = 40.0
) -> T:
    """Look until it is as wanted; fails with what was seen last."""
    deadline = time.monotonic() + within_s
    while True:
        seen = look()
        if until(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {within_s:.0f} s; seen last: {seen!r}")
        time.sleep(0.1)
