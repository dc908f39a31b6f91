"""PodDisruptionBudget and ServiceAccount."""

from __future__ import annotations

from llmservice_operator.desired.metadata import metadata, selector
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service


def disruption_budget(service: Service) -> Manifest:
    """How many replicas a node drain may take at once."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(service, service.name),
        "spec": {
            "maxUnavailable": service.spec.disruption_budget.max_unavailable,
            "selector": {"matchLabels": selector(service)},
            # A replica that never became ready protects nobody; it must not block a node drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def service_account(service: Service) -> Manifest:
    """An identity without rights: pods get no API token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(service, service.name),
        "automountServiceAccountToken": False,
    }
