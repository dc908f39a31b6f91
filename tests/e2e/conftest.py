"""A cluster with the operator and Jaeger in it, and one served model.

The cluster is the one of KUBECONFIG (images must be there), else this machine's node if
`make cluster` has started it, else a node that is started here and ended afterwards.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Final

import helm_python as helm
import pytest
from cluster.modules import module_of
from cluster.node import the_node
from cluster.tools import E2E, ensure
from e2e.chart import Release
from e2e.kube import MANIFESTS, Cluster, Kube, given_kubeconfig
from llmservice_api import __version__, names
from llmservice_lab.engine.environment import ensure_engine_python
from llmservice_lab.engine.tiny_model import ensure_tiny_model

NAMESPACE: Final = "llmservice-e2e"
TOOLS_NAMESPACE: Final = "llmservice-e2e-tools"
OPERATOR_NAMESPACE: Final = "llmservice-e2e-system"
_JAEGER_IMAGE: Final = f"localhost/llmservice-e2e/jaeger:{module_of('jaeger').version}"
_PUBLIC_JAEGER_IMAGE: Final = f"docker.io/jaegertracing/all-in-one:{module_of('jaeger').version}"
_UNPACK: Final = (
    "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/models')"
)
_SIDECAR_IMAGE: Final = f"{names.IMAGE_REPOSITORY}/sidecar:{__version__}"
_ENGINE: Final = f"{names.IMAGE_REPOSITORY}/engine-cpu:{__version__}"
# The same image by another name, for a change of the image that changes nothing else.
_OTHER_ENGINE: Final = f"{_ENGINE}-other"
# Against a cluster of your own: push it there, or name one that is there.
_OTHER_ENGINE_VARIABLE: Final = "LLMSERVICE_E2E_OTHER_ENGINE"
# In this order; what is not named comes between the two groups.
_FIRST: Final = ("test_first_path.py", "test_lifecycle.py")
_LAST: Final = ("test_rights.py", "test_uninstall.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test the time that a cold cluster needs, and the files their order."""
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    given = given_kubeconfig()
    if given is not None and given != the_node().kubeconfig:
        # No other cluster shows us its audit log.
        items[:] = [item for item in items if item.path.name != "test_rights.py"]
        ours = [item for item in ours if item in items]
    for item in ours:
        item.add_marker(pytest.mark.timeout(1500))
    # Stable: the tests of a file stay as they are.
    items[:] = [item for item in items if item not in ours] + sorted(ours, key=_place)


def _place(item: pytest.Item) -> int:
    name = item.path.name
    if name in _FIRST:
        return _FIRST.index(name) - len(_FIRST)
    return 1 + _LAST.index(name) if name in _LAST else 0


@pytest.fixture(scope="session")
def cluster() -> Generator[Cluster]:
    """A cluster that has our images; a node that was started for it leaves no trace."""
    programs = ensure(E2E)
    given = given_kubeconfig()
    node = the_node()
    if given is not None and given != node.kubeconfig:
        yield Cluster(
            Kube(programs["kubectl"], given),
            programs,
            jaeger_image=_PUBLIC_JAEGER_IMAGE,
            other_engine=os.environ.get(_OTHER_ENGINE_VARIABLE, _OTHER_ENGINE),
            audit_log=None,
        )
        return
    was_up = node.running() is not None
    built = node.build()
    node.up()
    try:
        node.load(built)
        node.load_program(_JAEGER_IMAGE, programs["jaeger"])
        node.tag(_ENGINE, _OTHER_ENGINE)
        yield Cluster(
            Kube(programs["kubectl"], node.kubeconfig),
            programs,
            jaeger_image=_JAEGER_IMAGE,
            other_engine=_OTHER_ENGINE,
            audit_log=node.audit_log,
        )
    finally:
        if not was_up:
            node.down()
    if not was_up:
        assert node.left_behind() == []


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Kube:
    """kubectl for the cluster."""
    return cluster.kube


@pytest.fixture(scope="session")
def release(kube: Kube) -> Generator[Release]:
    """The operator, installed from the chart in a restricted namespace."""
    kube.namespace(OPERATOR_NAMESPACE, level="restricted")
    with helm.Config(kubeconfig_path=kube.kubeconfig, namespace=OPERATOR_NAMESPACE) as config:
        release = Release(config, OPERATOR_NAMESPACE)
        # What a run that was killed has left.
        release.uninstall()
        release.install()
        yield release
        release.uninstall()
    kube.run("delete", "namespace", OPERATOR_NAMESPACE, "--timeout=60s")


@pytest.fixture(scope="session")
def operator(release: Release) -> str:
    """The namespace of the installed operator."""
    return release.namespace


@pytest.fixture(scope="session")
def jaeger(kube: Kube, cluster: Cluster) -> Generator[str]:
    """Jaeger in the cluster; yields the address of its query API on this machine."""
    kube.namespace(TOOLS_NAMESPACE, level="privileged")
    manifest = (MANIFESTS / "jaeger.yaml").read_text(encoding="utf-8")
    in_tools = ("-n", TOOLS_NAMESPACE)
    content = manifest.replace("JAEGER_IMAGE", cluster.jaeger_image).encode()
    kube.run("apply", *in_tools, "-f", "-", stdin=content)
    kube.run("rollout", "status", "deployment/jaeger", *in_tools, "--timeout=60s")
    with kube.forward("service/jaeger", 16686, namespace=TOOLS_NAMESPACE) as address:
        yield address
    kube.run("delete", "namespace", TOOLS_NAMESPACE, "--timeout=60s")


@pytest.fixture(scope="session")
def namespace(kube: Kube, jaeger: str) -> Generator[str]:
    """A restricted namespace with a claim that holds the tiny model."""
    # What a run that was killed has left: a volume remembers the claim that it was bound to.
    volume = ("persistentvolume", "llmservice-e2e-models")
    kube.run("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout_s=200)
    kube.run("delete", *volume, "--ignore-not-found", "--timeout=60s")
    kube.namespace(NAMESPACE, level="restricted")
    manifest = (MANIFESTS / "model-volume.yaml").read_text(encoding="utf-8")
    kube.apply(manifest.replace("SIDECAR_IMAGE", _SIDECAR_IMAGE))
    in_tools = ("-n", TOOLS_NAMESPACE)
    kube.run("wait", "pod/loader", *in_tools, "--for=condition=Ready", "--timeout=60s")
    kube.run(
        *("exec", "-i", "loader", *in_tools, "--", "python", "-c", _UNPACK),
        stdin=_archive(_tiny_model()),
    )
    yield NAMESPACE
    kube.run("delete", "namespace", NAMESPACE, "--timeout=180s", timeout_s=200)
    kube.run("delete", *volume, "--timeout=60s")


def _tiny_model() -> Path:
    def silent(_text: str) -> None:
        return

    return ensure_tiny_model(ensure_engine_python(log=silent))


def _archive(model: Path) -> bytes:
    def readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
        # safetensors writes files for their owner only; the engine is another user.
        member.mode |= 0o555 if member.isdir() else 0o444
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("tiny", "other"):
            archive.add(model, arcname=name, filter=readable)
    return buffer.getvalue()
