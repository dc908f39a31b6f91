"""A control plane of its own: the trials fill it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from cluster.controlplane import ControlPlane, control_plane

CRD = Path(__file__).parents[2] / "crds" / "llmservice.yaml"


@pytest.fixture
def plane() -> Generator[ControlPlane]:
    """etcd, API server and controllers, with the CRD installed."""
    with control_plane() as running:
        running.kubectl("apply", "--server-side", "-f", str(CRD))
        running.kubectl("wait", "--for=condition=Established", "-f", str(CRD), "--timeout=30s")
        yield running
