"""A real control plane that the chart is installed into; nothing of ours is there before."""

from __future__ import annotations

import uuid
from collections.abc import Generator

import helm_python as helm
import pytest
from cluster.controlplane import ControlPlane, control_plane
from fakes.chart_release import DEFINITION, Installation, new_namespace
from fakes.strict_schemas import FIXTURES


@pytest.fixture(scope="session")
def plane() -> Generator[ControlPlane]:
    """etcd, API server and controllers, with the definitions of the Prometheus operator."""
    with control_plane() as running:
        monitors = [
            "-f" + str(FIXTURES / f"{kind}.yaml")
            for kind in ("servicemonitors", "podmonitors", "prometheusrules")
        ]
        running.kubectl("apply", "--server-side", *monitors)
        running.kubectl("wait", "--for=condition=Established", *monitors, "--timeout=30s")
        yield running


@pytest.fixture
def release(plane: ControlPlane) -> Generator[Installation]:
    """A release to come in a namespace of its own; afterwards the cluster is as it was."""
    namespace = f"chart-{uuid.uuid4().hex[:8]}"
    new_namespace(plane, namespace)
    with helm.Config(kubeconfig_path=plane.kubeconfig, namespace=namespace) as config:
        installation = Installation(plane, config, namespace)
        yield installation
        config.uninstall(installation.name, ignore_not_found=True)
    plane.kubectl("delete", DEFINITION, "--ignore-not-found", "--timeout=30s")
    plane.kubectl("delete", "namespace", namespace, "--wait=false")
