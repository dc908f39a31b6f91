"""Who may reach a service's pods: clients the doors, machines the ops port, nobody the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmservice_api import names

from llmservice_operator.desired.metadata import metadata, selector
from llmservice_operator.kinds import NETWORK_POLICY
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service
from llmservice_operator.settings import Neighbours

_NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"  # Kubernetes puts it on every namespace
_OPERATOR: Final = {"app.kubernetes.io/component": "operator"}


def network_policy(service: Service, neighbours: Neighbours) -> Manifest:
    """Ingress only. Probes come from the node, which policies do not concern."""
    pods = {"podSelector": {"matchLabels": selector(service)}}
    asking = [_namespace(neighbours.operator_namespace, pods=_OPERATOR), pods]
    asking += [_namespace(name) for name in neighbours.monitoring_namespaces]
    rules: list[Manifest] = [
        {"ports": _ports(names.PORT_HTTP, names.PORT_GRPC)},
        {"from": asking, "ports": _ports(names.PORT_OPS)},
    ]
    if service.spec.parallelism.nodes > 1:
        # The engine's processes on several nodes talk on ports that they choose.
        rules.append({"from": [pods]})
    return {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.kind,
        "metadata": metadata(service, service.name),
        "spec": {
            "podSelector": {"matchLabels": selector(service)},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }


def _ports(*numbers: int) -> Sequence[Manifest]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]


def _namespace(name: str, *, pods: dict[str, str] | None = None) -> Manifest:
    peer: Manifest = {"namespaceSelector": {"matchLabels": {_NAMESPACE_LABEL: name}}}
    return peer | ({"podSelector": {"matchLabels": pods}} if pods else {})
