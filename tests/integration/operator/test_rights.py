"""The operator works with the rights that the chart gives it, and is refused anything else."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from cluster.controlplane import ControlPlane
from fakes.live_operator import LiveOperator, View, eventually

CHART = Path(__file__).parents[3] / "charts" / "llmservice"
RIGHTS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


def rights(namespace: str, *, namespaced: bool) -> list[dict[str, Any]]:
    """The ServiceAccount, roles and bindings of the chart, as Helm renders them."""
    values: dict[str, Any] = {"rbac": {"aggregate": False}, "fullnameOverride": namespace}
    if namespaced:
        values["namespaces"] = [namespace]
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="llmservice", namespace=namespace)
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    found = [item for text in texts for item in yaml.safe_load_all(text) if item]
    return [item for item in found if item["kind"] in RIGHTS]


def login(plane: ControlPlane, view: View, directory: Path) -> Path:
    """A kubeconfig with nothing but the ServiceAccount's token."""
    token = view.kubectl("create", "token", view.namespace).strip()
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize("namespaced", [True, False], ids=["in one namespace", "cluster-wide"])
def test_operator_does_all_its_work_with_the_charts_rights(
    plane: ControlPlane, view: View, tmp_path: Path, namespaced: bool
) -> None:
    granted = rights(view.namespace, namespaced=namespaced)
    assert {item["kind"] for item in granted} > {"ServiceAccount"}
    plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(granted))
    kubeconfig = login(plane, view, tmp_path)
    # The chart names the Lease after itself and keeps it in its own namespace.
    arguments = [f"--lease={view.namespace}", f"--lease-namespace={view.namespace}"]
    if namespaced:
        arguments.append(f"--namespace={view.namespace}")
    operator = LiveOperator(plane, *arguments, kubeconfig=kubeconfig)
    try:
        view.apply(model={"uri": "pvc://weights/m"})
        eventually(view.exist, within_s=40)
        eventually(
            lambda: view.reason("ModelReady"),
            until=lambda seen: seen == ("False", "PersistentVolumeClaimNotFound"),
        )
        eventually(
            lambda: view.list("events"),
            until=lambda events: any(e["involvedObject"]["name"] == "svc" for e in events),
        )
        view.kubectl("delete", "svc/svc")
        eventually(lambda: view.get("svc/svc"))
        assert operator.stop() == 0
        log = operator.log.read_text().lower()
        # Cluster-wide it also sees the namespaces of other tests end: no right is missing there.
        refused = [line for line in log.splitlines() if "forbidden" in line]
        assert [line for line in refused if "being terminated" not in line] == []
        assert "not enough permissions" not in log
    finally:
        print(operator.log.read_text()[-10_000:])
        if operator.ended() is None:
            operator.kill()
        operator.log.unlink()
        plane.kubectl("delete", "--ignore-not-found", "-f", "-",
                      stdin=yaml.safe_dump_all(granted))  # fmt: skip


def test_operator_does_not_reach_another_namespace(
    plane: ControlPlane, view: View, tmp_path: Path
) -> None:
    granted = rights(view.namespace, namespaced=True)
    plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(granted))
    kubeconfig = login(plane, view, tmp_path)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        plane.kubectl(f"--kubeconfig={kubeconfig}", "get", "llmsvc", "-n", "default")
    assert "forbidden" in str(refused.value.stderr)
