"""A cluster with the operator and Jaeger in it, and one served model.

The cluster is the one of KUBECONFIG (images must be there), else this machine's node if
`make cluster` has started it, else a node that is started here and ended afterwards.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Final

import helm_python as helm
import pytest
from cluster.modules import module_of
from cluster.node import Node, the_node
from cluster.tools import E2E, ensure
from e2e.kube import MANIFESTS, Cluster, Kube, given_kubeconfig
from llmservice_api import __version__, names
from llmservice_lab.engine.environment import ensure_engine_python
from llmservice_lab.engine.tiny_model import ensure_tiny_model

ROOT: Final = Path(__file__).parents[2]
NAMESPACE: Final = "llmservice-e2e"
TOOLS_NAMESPACE: Final = "llmservice-e2e-tools"
OPERATOR_NAMESPACE: Final = "llmservice-e2e-system"
# Never the name under which somebody has really installed it.
RELEASE: Final = "llmservice-e2e"
_JAEGER_IMAGE: Final = f"localhost/llmservice-e2e/jaeger:{module_of('jaeger').version}"
_PUBLIC_JAEGER_IMAGE: Final = f"docker.io/jaegertracing/all-in-one:{module_of('jaeger').version}"
_UNPACK: Final = (
    "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/models')"
)
_SIDECAR_IMAGE: Final = f"{names.IMAGE_REPOSITORY}/sidecar:{__version__}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test the time that a cold cluster needs; the default suits unit tests."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def cluster() -> Generator[Cluster]:
    """A cluster that has our images; a node that was started for it leaves no trace."""
    programs = ensure(E2E)
    given = given_kubeconfig()
    node = the_node()
    if given is not None and given != node.kubeconfig:
        yield Cluster(Kube(programs["kubectl"], given), programs, _PUBLIC_JAEGER_IMAGE)
        return
    was_up = node.running() is not None
    node.up()
    try:
        _load_images(node, programs)
        yield Cluster(Kube(programs["kubectl"], node.kubeconfig), programs, _JAEGER_IMAGE)
    finally:
        if not was_up:
            node.down()
    if not was_up:
        assert node.left_behind() == []


def _load_images(node: Node, programs: dict[str, Path]) -> None:
    node.load_ours(("operator", "sidecar", "engine-cpu"))
    node.load_program(_JAEGER_IMAGE, programs["jaeger"])


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Kube:
    """kubectl for the cluster."""
    return cluster.kube


@pytest.fixture(scope="session")
def operator(kube: Kube) -> Generator[str]:
    """The operator, installed from the chart in a restricted namespace; yields its namespace."""
    kube.namespace(OPERATOR_NAMESPACE, level="restricted")
    with helm.Config(kubeconfig_path=kube.kubeconfig, namespace=OPERATOR_NAMESPACE) as config:
        # What a run that was killed has left; the definition is kept by the chart on purpose.
        config.uninstall(RELEASE, ignore_not_found=True, wait="watcher", timeout=60)
        config.install(
            ROOT / "charts" / "llmservice",
            RELEASE,
            {"crds": {"keep": False}},
            namespace=OPERATOR_NAMESPACE,
            wait="watcher",
            timeout=120,
        )
        yield OPERATOR_NAMESPACE
        config.uninstall(RELEASE, wait="watcher", timeout=60)
    kube.run("delete", "namespace", OPERATOR_NAMESPACE, "--timeout=60s")


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
    kube.run("delete", "namespace", NAMESPACE, "--timeout=120s")
    kube.run("delete", "persistentvolume", "llmservice-e2e-models", "--timeout=60s")


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
        archive.add(model, arcname="tiny", filter=readable)
    return buffer.getvalue()
