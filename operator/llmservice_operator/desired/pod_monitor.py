"""What Prometheus scrapes of every replica, as an object of the Prometheus operator."""

from __future__ import annotations

from typing import Final

from llmservice_api.spec import Switch

from llmservice_operator.desired.metadata import leader_selector, metadata
from llmservice_operator.desired.secrets import has_tls
from llmservice_operator.kinds import POD_MONITOR
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

# Prometheus' name of names.LABEL_NAME on a pod.
_POD_LABEL: Final = "__meta_kubernetes_pod_label_llmservice_dev_name"


def pod_monitor(service: Service) -> Manifest | None:
    """The merged metrics of sidecar and engine on the data port; None unless asked for."""
    if service.spec.monitoring.pod_monitor is not Switch.ENABLED:
        return None
    endpoint: Manifest = {
        "port": "http",
        "path": "/metrics",
        "scheme": "http",
        # The label that the chart's alerts and dashboards group by.
        "relabelings": [{"sourceLabels": [_POD_LABEL], "targetLabel": "llmservice"}],
    }
    if has_tls(service):
        # Pods are asked by their addresses, which no certificate names. Nothing secret is sent.
        endpoint |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    return {
        "apiVersion": POD_MONITOR.api_version,
        "kind": POD_MONITOR.kind,
        "metadata": metadata(service, service.name),
        "spec": {
            "selector": {"matchLabels": leader_selector(service)},
            "podMetricsEndpoints": [endpoint],
        },
    }
