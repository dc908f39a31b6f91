"""The resource of every span: complete from what the operator puts into the pod."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
import yaml
from llmservice_api.sidecar_config import TracingConfig
from llmservice_sidecar.adapters.telemetry_tracing import make_tracing

GOLDEN: Final = Path(__file__).parents[2] / "golden" / "manifests"


def sidecars(manifest: Path) -> Iterator[dict[str, Any]]:
    """The sidecar's container in every pod template, wherever that is."""

    def found(node: object) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            named = cast("dict[str, Any]", node)
            for container in named.get("initContainers") or ():
                if container["name"] == "sidecar":
                    yield container
            for value in named.values():
                yield from found(value)
        elif isinstance(node, list):
            for item in cast("list[object]", node):
                yield from found(item)

    for document in yaml.safe_load_all(manifest.read_text()):
        yield from found(document)


# One of them is refused, and has no pod.
WITH_A_POD: Final = [path for path in sorted(GOLDEN.glob("*.yaml")) if [*sidecars(path)]]


@pytest.mark.parametrize("manifest", WITH_A_POD, ids=lambda path: path.stem)
async def test_the_pod_tells_the_sidecar_all_that_the_resource_needs(
    manifest: Path, tmp_path: Path
) -> None:
    for container in sidecars(manifest):
        environ = {
            entry["name"]: entry["valueFrom"]["fieldRef"]["fieldPath"]
            for entry in container["env"]
            if "fieldRef" in entry.get("valueFrom", {})
        }
        path = tmp_path / container["name"]
        config = TracingConfig(exporter="otlp-file", exporter_endpoint=str(path))
        tracing = make_tracing(config, service="chat", namespace="team", environ=environ)
        tracing.tracer.start_span("work").end()
        await tracing.close()
        (resource,) = json.loads(path.read_text())["resourceSpans"]
        attributes = resource["resource"]["attributes"]
        told = {one["key"]: one["value"]["stringValue"] for one in attributes}
        assert told.pop("service.version")
        assert told == {
            "service.name": "chat",
            "service.namespace": "team",
            "service.instance.id": "metadata.name",
            "k8s.pod.name": "metadata.name",
            "k8s.pod.uid": "metadata.uid",
            "k8s.namespace.name": "metadata.namespace",
            "k8s.node.name": "spec.nodeName",
            "k8s.container.name": "sidecar",
        }


def test_pods_were_found() -> None:
    assert len(WITH_A_POD) > 5
