"""A release of the chart on a real API server, through Helm as a library and kubectl."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import yaml
from cluster.controlplane import ControlPlane
from fakes.rendered_chart import CHART

Json = dict[str, Any]

DEFINITION: Final = "crd/llmservices.llmservice.dev"


def new_namespace(plane: ControlPlane, name: str) -> None:
    """A namespace that enforces the restricted level."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }
    plane.kubectl("create", "-f", "-", stdin=yaml.safe_dump(namespace))


@dataclass(frozen=True, slots=True)
class Installation:
    """A release name and its namespace."""

    plane: ControlPlane
    config: helm.Config
    namespace: str
    name: str = "llmservice"

    def install(self, values: Json | None = None, *, chart: Path = CHART) -> Json:
        """`helm install`; what Helm reports of the release."""
        return self.config.install(chart, self.name, values or {}, namespace=self.namespace)

    def upgrade(self, values: Json | None = None, *, chart: Path = CHART) -> Json:
        """`helm upgrade`."""
        return self.config.upgrade(chart, self.name, values or {}, namespace=self.namespace)

    def uninstall(self) -> None:
        """`helm uninstall --wait`: fails when anything hangs."""
        self.config.uninstall(self.name, wait="watcher", timeout=60)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in the release's namespace."""
        return self.plane.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def get(self, target: str) -> Json:
        """One object, empty when there is none."""
        said = self.kubectl("get", target, "-o", "json", "--ignore-not-found")
        return yaml.safe_load(said) if said else {}

    def kubeconfig(self, account: str, directory: Path) -> Path:
        """A kubeconfig with nothing but the token of an account of the release's namespace."""
        config = yaml.safe_load(self.plane.kubeconfig.read_text(encoding="utf-8"))
        config["users"][0]["user"] = {"token": self.kubectl("create", "token", account).strip()}
        path = directory / f"{account}.kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def serve(self, name: str = "chat") -> Json:
        """An LLMService, as the API server has stored it."""
        self.plane.kubectl("wait", "--for=condition=Established", DEFINITION, "--timeout=30s")
        service = {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": name},
            "spec": {"model": {"uri": "pvc://models/tiny"}},
        }
        self.kubectl("create", "-f", "-", stdin=yaml.safe_dump(service))
        return self.get(f"llmsvc/{name}")

    def served(self) -> list[str]:
        """The names of all LLMServices of the namespace; none when the kind is not served."""
        path = f"/apis/llmservice.dev/v1alpha1/namespaces/{self.namespace}/llmservices"
        try:
            said = self.plane.kubectl("get", f"--raw={path}")
        except subprocess.CalledProcessError as error:
            if "NotFound" not in error.stderr:
                raise
            return []
        return [item["metadata"]["name"] for item in json.loads(said)["items"]]
