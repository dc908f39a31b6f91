"""PodDisruptionBudget and ServiceAccount."""

from __future__ import annotations

from llmservice_operator.desired.metadata import metadata, selector
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service


def disruption_budget(service: Service) -> Manifest:
    """How many replicas a node drain may take at once.

    Of a replica of several nodes each pod counts, for whichever leaves takes the others with it.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(service, service.name),
        "spec": {
            "maxUnavailable": _pods(service),
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


def _pods(service: Service) -> int | str:
    """The budget in pods: a share of replicas is a smaller share of their pods."""
    most = service.spec.disruption_budget.max_unavailable
    if isinstance(most, int) or service.spec.parallelism.nodes == 1:
        return most
    return f"{int(most.removesuffix('%')) // service.spec.parallelism.nodes}%"
