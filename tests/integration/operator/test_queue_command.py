"""`kubectl llmsvc queue` by the real kubectl, before a real API server, with documented rights."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml
from cluster.controlplane import ControlPlane

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
ROLE = re.findall(r"<!-- queue-rights -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
INSTALLED = Path(sys.executable).parent  # `kubectl-llmsvc` beside the interpreter
POD = """
apiVersion: v1
kind: Pod
metadata: {name: chat-0, labels: {llmservice.dev/name: chat}}
spec: {containers: [{name: main, image: absent}]}
"""


def queue(
    plane: ControlPlane, kubeconfig: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run `kubectl llmsvc queue ARGUMENTS`."""
    environment = os.environ | {
        "KUBECONFIG": str(kubeconfig),
        "PATH": f"{INSTALLED}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        [str(plane.programs["kubectl"]), "llmsvc", "queue", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def person(plane: ControlPlane, namespace: str, directory: Path) -> Path:
    """A kubeconfig of somebody without any right, whose context has this namespace."""
    plane.kubectl("create", "serviceaccount", "ada", "-n", namespace)
    token = plane.kubectl("create", "token", "ada", "-n", namespace).strip()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    config["contexts"][0]["context"]["namespace"] = namespace
    path = directory / "ada.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_what_cannot_be_shown_is_explained_with_the_right_that_is_missing(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    ada = person(plane, namespace, tmp_path)
    refused = queue(plane, ada, "chat")
    assert refused.returncode == 1
    assert f"error: no right to list pods in namespace {namespace}: pods is forbidden" in (
        refused.stderr
    )
    (role,) = ROLE
    plane.kubectl("apply", "-f", "-", stdin=role)
    binding = ["rolebinding", "ada", "-n", namespace, "--clusterrole=llmservice-queue"]
    plane.kubectl("create", *binding, f"--serviceaccount={namespace}:ada")
    absent = queue(plane, ada, "chat")
    assert f"error: there is no LLMService chat in namespace {namespace}" in absent.stderr
    # Without a node no pod runs; it says that it does.
    plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=POD)
    running = '{"status": {"phase": "Running"}}'
    patch = ["patch", "pod", "chat-0", "-n", namespace, "--subresource=status", "--type=merge"]
    plane.kubectl(*patch, "-p", running)
    silent = queue(plane, ada, "chat", "-n", namespace)
    assert "error: no pod of 1 answered" in silent.stderr
    # The rights suffice: it is not they that are missing.
    assert "chat-0: the API server answered" in silent.stderr
    assert "no right" not in silent.stderr


def test_without_the_right_to_forward_ports_the_role_is_named(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    ada = person(plane, namespace, tmp_path)
    plane.kubectl("create", "role", "lists", "-n", namespace, "--verb=list", "--resource=pods")
    account = f"--serviceaccount={namespace}:ada"
    plane.kubectl("create", "rolebinding", "lists", "-n", namespace, "--role=lists", account)
    plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=POD)
    patch = ["patch", "pod", "chat-0", "-n", namespace, "--subresource=status", "--type=merge"]
    plane.kubectl(*patch, "-p", '{"status": {"phase": "Running"}}')
    refused = queue(plane, ada, "chat")
    assert "chat-0: no right to forward ports of pods (403)" in refused.stderr
    assert "next: ask for the ClusterRole of docs/cli.md#queue" in refused.stderr
