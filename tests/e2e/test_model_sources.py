"""Models from a hub and from an image on a real node: delivered, told, served.

The hub is a pod with the real one's API; the cache is a claim that two replicas share; the image is
mounted as a volume.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest
from cluster import oci
from cluster.node import the_node
from e2e.kube import MANIFESTS, Cluster, Kube, KubeError
from e2e.service import LiveService, cycle
from llmservice_api import __version__, names
from llmservice_lab.engine.environment import ensure_engine_python
from llmservice_lab.engine.tiny_model import ensure_tiny_model

TOOLS_NAMESPACE: Final = "llmservice-e2e-tools"
_SIDECAR_IMAGE: Final = f"{names.IMAGE_REPOSITORY}/sidecar:{__version__}"
_FAKES: Final = Path(__file__).parents[1] / "fakes"
_HUB_PROGRAM: Final = (_FAKES / "hub_server.py", _FAKES / "hub_repositories.py")
# Against a cluster of your own: an image with the tiny model's files at its root.
_MODEL_IMAGE: Final = os.environ.get(
    "LLMSERVICE_E2E_MODEL_IMAGE", "localhost/llmservice-e2e/tiny-model:1"
)
_CYCLE: Final[dict[str, Any]] = json.loads(cycle("any"))["spec"]["template"]["spec"]
_FROM_HUB: Final = {
    "spec": {
        **_CYCLE,
        "initContainers": [
            {"name": "fetch", "env": [{"name": "HF_ENDPOINT", "value": "http://hub"}]}
        ],
    }
}


@pytest.fixture(scope="module")
def hub(kube: Kube, namespace: str) -> Generator[str]:
    """The hub's namespace, with a cache volume that no class provides."""
    files = (f"--from-file={path}" for path in _HUB_PROGRAM)
    program = ("create", "configmap", "hub-program", *files)
    volume = ("persistentvolume", "llmservice-e2e-cache")
    kube.run("delete", *volume, "--ignore-not-found", "--timeout=60s")
    kube.run("-n", namespace, *program)
    manifest = (MANIFESTS / "hub.yaml").read_text(encoding="utf-8")
    filled = manifest.replace("SIDECAR_IMAGE", _SIDECAR_IMAGE)
    kube.run("-n", namespace, "apply", "-f", "-", stdin=_split(filled, tools=False))
    kube.run("apply", "-f", "-", stdin=_split(filled, tools=True))
    kube.run("-n", namespace, "wait", "pod/hub", "--for=condition=Ready", "--timeout=60s")
    made = ("pod/cache-maker", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    kube.run("-n", TOOLS_NAMESPACE, "wait", *made)
    yield namespace
    kube.run("-n", namespace, "delete", "pod/hub", "service/hub", "configmap/hub-program")
    kube.run("-n", TOOLS_NAMESPACE, "delete", "pod/cache-maker")
    kube.run("delete", *volume, "--timeout=60s")


def _split(manifest: str, *, tools: bool) -> bytes:
    """The documents for the tools' namespace, or all others."""
    mark = "TOOLS_NAMESPACE"
    kept = [part for part in manifest.split("---\n") if (mark in part) is tools]
    return "---\n".join(kept).replace(mark, TOOLS_NAMESPACE).encode()


def test_replicas_share_one_download_of_a_hub_model(kube: Kube, operator: str, hub: str) -> None:
    service = LiveService(kube, hub, "from-hub")
    model = {
        "uri": "hf://org/tiny",
        "cache": {"size": "1Gi", "storageClassName": "llmservice-e2e-none"},
    }
    service.apply(cycle("from-hub", model=model, replicas=2, template=_FROM_HUB))
    service.wait_settled(2)
    kube.wait_until(
        "the status tells what was delivered",
        lambda: _delivered(service),
        timeout_s=60,
        show=f"get -n {hub} {service.reference} -o yaml",
    )
    assert len(service.get()["status"]["model"]["revision"]) == 40
    ready = service.condition("ModelReady")
    assert (ready["status"], ready["reason"]) == ("True", "Downloaded")
    logs = [
        service.kubectl("logs", pod["metadata"]["name"], "-c", "fetch") for pod in service.pods()
    ]
    assert all("delivered model" in log for log in logs)
    assert service.kubectl("get", "pvc/from-hub-models", "-o", "jsonpath={.status.phase}") == (
        "Bound"
    )
    _serves(service)
    service.kubectl("delete", service.reference, "--timeout=120s")
    kube.wait_until(
        "the claim goes with its service",
        lambda: not kube.items("pvc", "-n", hub, "-l", f"{names.LABEL_NAME}=from-hub"),
        timeout_s=120,
    )


def test_cause_of_a_failed_download_is_in_the_status(kube: Kube, operator: str, hub: str) -> None:
    service = LiveService(kube, hub, "absent")
    service.apply(cycle("absent", model={"uri": "hf://org/absent"}, template=_FROM_HUB))
    kube.wait_until(
        "the download has failed",
        lambda: service.condition("ModelReady").get("reason") == "DownloadFailed",
        timeout_s=120,
        show=f"describe -n {hub} {service.reference}",
    )
    assert "tokenSecretRef" in service.condition("ModelReady")["message"]
    assert service.condition("Stalled")["status"] == "True"
    service.kubectl("delete", service.reference, "--timeout=120s")


@pytest.fixture(scope="module")
def model_image(cluster: Cluster) -> str:
    """An image that holds the tiny model; on this machine's node it is made and loaded."""
    node = the_node()
    if cluster.kube.kubeconfig == node.kubeconfig:
        tiny = ensure_tiny_model(ensure_engine_python(log=print))
        files = {path.name: path for path in tiny.iterdir() if path.is_file()}
        oci.add_scratch_image(node.layout, name=_MODEL_IMAGE, files=files, entrypoint=[])
        node.load([_MODEL_IMAGE])
    return _MODEL_IMAGE


def test_model_in_an_image_is_served(
    kube: Kube, operator: str, namespace: str, model_image: str
) -> None:
    service = LiveService(kube, namespace, "from-image")
    service.apply(cycle("from-image", model={"uri": f"oci://{model_image}"}))
    service.wait_settled(1)
    assert service.condition("ModelReady")["reason"] == "ImageVolume"
    _serves(service)
    service.kubectl("delete", service.reference, "--timeout=120s")


def _delivered(service: LiveService) -> bool:
    told = service.get()["status"]["model"]
    return told["phase"] == "Ready" and 0 < told.get("bytes", 0) == told.get("totalBytes")


def _serves(service: LiveService) -> None:
    """One completion through the door of a replica."""
    script = (
        "import json, urllib.request as r; q = r.Request('http://127.0.0.1:8000/v1/completions', "
        f"json.dumps({{'model': {service.name!r}, 'prompt': 'a', 'max_tokens': 4}}).encode(), "
        "{'Content-Type': 'application/json'}); print(r.urlopen(q, timeout=60).status)"
    )
    pod = service.pods()[0]["metadata"]["name"]
    command = ("exec", pod, "-c", "sidecar", "--", "python", "-c", script)
    said = service.kubectl(*command)
    if said.strip() != "200":
        raise KubeError(f"{service.reference} does not answer: {said}")
