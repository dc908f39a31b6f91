"""One real control plane for all tests of the operator, a namespace of its own for each."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from pathlib import Path

import pytest
from cluster.controlplane import ControlPlane, control_plane
from fakes.live_operator import LiveOperator, View

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def plane() -> Generator[ControlPlane]:
    """etcd, API server and controllers, with the CRD installed."""
    with control_plane() as running:
        crd = ROOT / "crds" / "llmservice.yaml"
        running.kubectl("apply", "--server-side", "-f", str(crd))
        running.kubectl("wait", "--for=condition=Established", "-f", str(crd), "--timeout=30s")
        yield running


@pytest.fixture
def namespace(plane: ControlPlane) -> Generator[str]:
    """A namespace that goes away with the test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def view(plane: ControlPlane, namespace: str) -> View:
    """The test's namespace."""
    return View(plane, namespace)


@pytest.fixture(scope="module")
def operator(plane: ControlPlane) -> Generator[LiveOperator]:
    """An operator for the whole cluster; a test that fails shows the end of its log."""
    running = LiveOperator(plane)
    yield running
    print(running.log.read_text()[-20_000:])
    assert running.stop() == 0
    running.log.unlink()
