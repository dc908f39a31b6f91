"""What `helm test` runs in its pod, run here against a real API server and a real operator."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from cluster.controlplane import ControlPlane
from cluster.processes import free_ports
from fakes.chart_release import Installation
from fakes.live_operator import LiveOperator, eventually
from fakes.rendered_chart import CHART, of_kind, render


@pytest.fixture
def account(plane: ControlPlane, release: Installation, tmp_path: Path) -> Path:
    """What the kubelet mounts for a pod under an account without rights."""
    (tmp_path / "token").write_text(release.kubectl("create", "token", "default").strip())
    (cluster,) = yaml.safe_load(plane.kubeconfig.read_text())["clusters"]
    authority = cluster["cluster"]
    if "certificate-authority-data" in authority:
        content = base64.b64decode(authority["certificate-authority-data"])
    else:
        content = Path(authority["certificate-authority"]).read_bytes()
    (tmp_path / "ca.crt").write_bytes(content)
    return tmp_path


def check(
    plane: ControlPlane, account: Path, *, ports: Sequence[int], within_s: float
) -> subprocess.CompletedProcess[str]:
    """Run the text that the pod runs; `ports` are the operator's liveness and metrics."""
    (pod,) = of_kind(render(), "Pod")
    (container,) = pod["spec"]["containers"]
    script, *told = container["args"]
    there = "http://llmservice.system.svc"
    assert told == [f"--healthz={there}:8080/healthz", f"--metrics={there}:8081/metrics"]
    here = [
        word.replace(f"{there}:{standard}", f"http://127.0.0.1:{port}")
        for word, standard, port in zip(told, (8080, 8081), ports, strict=True)
    ]
    return subprocess.run(
        [sys.executable, *container["command"][1:], script, *here, f"--api={plane.server}",
         f"--account={account}", f"--within-s={within_s}"],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


@pytest.mark.parametrize("namespaced", [True, False], ids=["in one namespace", "cluster-wide"])
def test_operator_works_with_the_command_and_the_rights_of_its_release(
    plane: ControlPlane, release: Installation, account: Path, tmp_path: Path, *, namespaced: bool
) -> None:
    release.install({"namespaces": [release.namespace]} if namespaced else {})
    pod = release.get("deploy/llmservice")["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    operator = LiveOperator(
        plane,
        *(word for word in command[3:] if not word.startswith("--liveness-port")),
        f"--lease-namespace={release.namespace}",
        kubeconfig=release.kubeconfig(pod["serviceAccountName"], tmp_path),
    )
    try:
        done = check(plane, account, ports=(operator.port, operator.http_port), within_s=40)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert [line.split()[:2] for line in done.stdout.splitlines()] == [
            ["ok", "definition:"],
            ["ok", "liveness:"],
            ["ok", "leader:"],
        ]
        release.serve()
        eventually(lambda: release.get("llmsvc/chat").get("status", {}).get("conditions"))
        assert release.get("lease/llmservice")["spec"]["holderIdentity"]
        assert operator.stop() == 0
        assert "forbidden" not in operator.log.read_text().lower()
    finally:
        print(operator.log.read_text()[-5_000:])
        if operator.ended() is None:
            operator.kill()
        operator.log.unlink()


def test_check_says_what_is_missing(plane: ControlPlane, account: Path) -> None:
    done = check(plane, account, ports=free_ports(2), within_s=0)
    assert done.returncode == 1
    assert "FAILED  definition: HTTP Error 404" in done.stdout
    for name in ("liveness", "leader"):
        assert re.search(rf"^FAILED  {name}: .*Connection refused", done.stdout, re.MULTILINE)


def test_check_is_the_file_of_the_chart() -> None:
    (pod,) = of_kind(render(), "Pod")
    script = (CHART / "files" / "check_release.py").read_text(encoding="utf-8")
    assert pod["spec"]["containers"][0]["args"][0].strip() == script.strip()
