"""What every owned object carries: labels, and the owner that garbage collection follows."""

from __future__ import annotations

from typing import Final

from llmservice_api import names

from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

MANAGED_BY: Final = "app.kubernetes.io/managed-by"


def selector(service: Service) -> dict[str, str]:
    """The labels that pods are selected by; immutable in a Deployment, so no version in them."""
    return {names.LABEL_NAME: service.name}


def leader_selector(service: Service) -> dict[str, str]:
    """The labels of the pods that stand for a replica: they have the sidecar and its doors."""
    chosen = selector(service)
    if service.spec.parallelism.nodes > 1:
        chosen[names.LABEL_WORKER_INDEX] = "0"
    return chosen


def labels(service: Service) -> dict[str, str]:
    """The labels of every owned object."""
    return {
        "app.kubernetes.io/component": "inference",
        "app.kubernetes.io/instance": service.name,
        MANAGED_BY: names.FIELD_MANAGER,
        "app.kubernetes.io/name": "llmservice",
        **selector(service),
    }


def metadata(service: Service, name: str, *, annotations: dict[str, str] | None = None) -> Manifest:
    """Metadata of an owned object. Without a uid (rendered from a file) there is no owner."""
    made: Manifest = {"name": name, "namespace": service.namespace, "labels": labels(service)}
    if annotations:
        made["annotations"] = annotations
    if service.uid:
        made["ownerReferences"] = [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": service.name,
                "uid": service.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return made
