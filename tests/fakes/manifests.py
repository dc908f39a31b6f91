"""Live objects as an API server returns them, with only what a test is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llmservice_api import names
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Images, Service, parse_service
from llmservice_operator.settings import OperatorSettings

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
IMAGES = Images(sidecar="sidecar:1", engine="engine:1", engine_cpu="engine-cpu:1")
SETTINGS = OperatorSettings(images=IMAGES)


def resource(name: str = "svc", **spec: Any) -> Manifest:
    """An LLMService as the API server has it; `spec` is laid over a minimal one."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "generation": 3},
        "spec": {"model": {"uri": "file:///models/m"}, **spec},
    }


def service(name: str = "svc", **spec: Any) -> Service:
    """The same, parsed."""
    return parse_service(resource(name, **spec))


def deployment(
    *,
    wanted: int = 1,
    ready: int = 0,
    updated: int | None = None,
    conditions: Any = (),
    **figures: Any,
) -> Manifest:
    """A Deployment whose controller has seen the latest template."""
    status: Manifest = {
        "observedGeneration": 5,
        "replicas": wanted,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "updatedReplicas": wanted if updated is None else updated,
        "conditions": list(conditions),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "svc", "namespace": "ns", "generation": 5},
        "spec": {"replicas": wanted},
        "status": status | figures,
    }


def pod(
    name: str = "svc-1",
    *,
    engine: Manifest | None = None,
    sidecar: Manifest | None = None,
    scheduled: Manifest | None = None,
    ready: bool = False,
) -> Manifest:
    """A pod; `engine` and `sidecar` are its containers' statuses."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    if scheduled:
        conditions.append({"type": "PodScheduled", **scheduled})
    status: Manifest = {"conditions": conditions, "podIP": "10.0.0.1"}
    if engine:
        status["containerStatuses"] = [{"name": "main", "image": "engine:1", **engine}]
    if sidecar:
        status["initContainerStatuses"] = [{"name": "sidecar", "image": "sidecar:1", **sidecar}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "labels": {names.LABEL_NAME: "svc"},
            "creationTimestamp": "2026-11-21T11:00:00Z",
        },
        "status": status,
    }


def waiting(reason: str, message: str = "") -> Manifest:
    """A container that does not run."""
    return {"state": {"waiting": {"reason": reason, "message": message}}}
