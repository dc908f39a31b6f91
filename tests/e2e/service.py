"""One LLMService in the cluster: what a user does to it, and what its pods are doing."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from e2e.kube import MANIFESTS, Kube, KubeError
from llmservice_api import names
from llmservice_api.status_report import StatusReport, decode_report

# A model on a machine that does much else at the same time.
SETTLED_WITHIN_S: Final = 240.0


def cycle(name: str, **spec: Any) -> str:
    """The manifest of a service with a quick and small engine, with some fields of its spec set."""
    manifest = yaml.safe_load((MANIFESTS / "cycle.yaml").read_text(encoding="utf-8"))
    manifest["metadata"]["name"] = name
    manifest["spec"] |= spec
    return json.dumps(manifest)


@dataclass(frozen=True, slots=True)
class LiveService:
    """An LLMService by name."""

    kube: Kube
    namespace: str
    name: str

    def kubectl(self, *arguments: str, stdin: bytes | None = None, timeout_s: float = 120) -> str:
        """kubectl in its namespace."""
        return self.kube.run("-n", self.namespace, *arguments, stdin=stdin, timeout_s=timeout_s)

    def apply(self, manifest: str) -> None:
        """Apply a manifest as a user would."""
        self.kubectl("apply", "-f", "-", stdin=manifest.encode())

    def patch(self, spec: Mapping[str, Any]) -> None:
        """Change some fields of the spec."""
        self.kubectl("patch", self.reference, "--type=merge", "-p", json.dumps({"spec": spec}))

    @property
    def reference(self) -> str:
        """The name for kubectl."""
        return f"llmservice/{self.name}"

    def get(self) -> dict[str, Any]:
        """The object."""
        return json.loads(self.kubectl("get", self.reference, "-o", "json"))

    def deployment(self) -> dict[str, Any]:
        """Its Deployment."""
        return json.loads(self.kubectl("get", f"deployment/{self.name}", "-o", "json"))

    def pods(self) -> list[dict[str, Any]]:
        """Its pods that are not on their way out, oldest first."""
        selector = f"{names.LABEL_NAME}={self.name}"
        found = json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
        staying = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(staying, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def uids(self) -> frozenset[str]:
        """Which pods they are, whatever their names."""
        return frozenset(pod["metadata"]["uid"] for pod in self.pods())

    def condition(self, kind: str) -> Mapping[str, Any]:
        """A condition; empty while it has none."""
        conditions = self.get().get("status", {}).get("conditions", [])
        return {entry["type"]: entry for entry in conditions}.get(kind, {})

    def report(self, pod: str) -> StatusReport:
        """What the sidecar of a pod says of itself."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{names.PORT_OPS}/proxy/status"
        return decode_report(self.kube.run("get", f"--raw={path}").encode())

    def wait_settled(
        self, replicas: int, *, without: frozenset[str] = frozenset(), what: str = ""
    ) -> float:
        """Wait for exactly so many ready pods, none of them among `without`; the seconds it took.

        The spec must have been acted on, too, and no rollout be under way.
        """
        return self.kube.wait_until(
            what or f"{self.reference} has {replicas} ready replicas",
            lambda: self._settled(replicas, without),
            timeout_s=SETTLED_WITHIN_S,
            show=f"describe -n {self.namespace} {self.reference} pods",
        )

    def _settled(self, replicas: int, without: frozenset[str]) -> bool:
        service = self.get()
        status = service.get("status", {})
        if status.get("observedGeneration") != service["metadata"]["generation"]:
            return False
        if status.get("readyReplicas", 0) != replicas:
            return False
        deployment = self.deployment()
        seen = deployment["status"]
        counts = {seen.get(f"{kind}Replicas", 0) for kind in ("updated", "ready", "available")}
        current = seen.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        if not current or counts | {seen.get("replicas", 0)} != {replicas}:
            return False
        uids = self.uids()
        return len(uids) == replicas and not uids & without

    @contextlib.contextmanager
    def fewest_available(self) -> Generator[list[int]]:
        """Watch the Deployment for the length of the block; afterwards the list has one number.

        It is the smallest number of available replicas that the API server ever told.
        """
        path = '{.status.availableReplicas}{"\\n"}'
        watch = ["get", f"deployment/{self.name}", "--watch", "-o", f"jsonpath={path}"]
        fewest: list[int] = []
        seen: list[str] = []

        def begun() -> bool:
            if not seen and process.poll() is not None:
                raise KubeError(f"the watch of deployment/{self.name} ended before its first line")
            return bool(seen)

        with subprocess.Popen(
            self.kube.command("-n", self.namespace, *watch), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            reader = threading.Thread(target=seen.extend, args=(process.stdout,))
            reader.start()
            try:
                # What happens before its first line would not be seen.
                self.kube.wait_until("the watch has begun", begun, timeout_s=30)
                yield fewest
            finally:
                process.terminate()
                reader.join()
        fewest.append(min(int(line.strip() or 0) for line in seen))
