"""What `helm test` runs in its pod, run here against a real API server and a real operator."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster.controlplane import ControlPlane
from fakes.chart_release import Installation
from fakes.live_operator import LiveOperator, free_port
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
    plane: ControlPlane, account: Path, *, port: int, within_s: float
) -> subprocess.CompletedProcess[str]:
    """Run the text that the pod runs."""
    (pod,) = of_kind(render(), "Pod")
    (container,) = pod["spec"]["containers"]
    script, healthz = container["args"]
    assert healthz == "--healthz=http://llmservice.system.svc:8080/healthz"
    return subprocess.run(
        [sys.executable, *container["command"][1:], script,
         f"--healthz=http://127.0.0.1:{port}/healthz", f"--api={plane.server}",
         f"--account={account}", f"--within-s={within_s}"],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


def test_check_passes_with_definition_and_operator_and_needs_no_rights(
    plane: ControlPlane, release: Installation, account: Path
) -> None:
    release.install()
    operator = LiveOperator(plane, f"--namespace={release.namespace}")
    try:
        done = check(plane, account, port=operator.port, within_s=40)
        assert (done.returncode, done.stderr) == (0, "")
        assert "ok      definition: llmservice.dev/v1alpha1 is served" in done.stdout
        assert "ok      liveness: the operator is alive" in done.stdout
    finally:
        print(operator.log.read_text()[-5_000:])
        operator.kill()
        operator.log.unlink()


def test_check_says_what_is_missing(plane: ControlPlane, account: Path) -> None:
    done = check(plane, account, port=free_port(), within_s=0)
    assert done.returncode == 1
    assert "FAILED  definition: HTTP Error 404" in done.stdout
    assert "FAILED  liveness: " in done.stdout
    assert "Connection refused" in done.stdout


def test_check_is_the_file_of_the_chart() -> None:
    (pod,) = of_kind(render(), "Pod")
    script = (CHART / "files" / "check_release.py").read_text(encoding="utf-8")
    assert pod["spec"]["containers"][0]["args"][0].strip() == script.strip()
