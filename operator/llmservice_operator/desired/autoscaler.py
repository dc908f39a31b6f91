"""What scales a service on its predicted backlog: KEDA where it is installed, else Kubernetes' own.

The operator never writes the number of replicas of a workload that either of them owns.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from llmservice_api import names
from llmservice_api.spec import Scaling

from llmservice_operator.capabilities import Capabilities
from llmservice_operator.desired.metadata import metadata
from llmservice_operator.kinds import HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service
from llmservice_operator.settings import OperatorSettings

_POLLING_S: Final = 15  # as often as Kubernetes' own autoscaler looks
_WAKING_POLLING_S: Final = 5  # while nobody serves each of them is a second that somebody waits
_LONGEST_WINDOW_S: Final = 3600  # the API allows no longer stabilisation window
_BACKLOG_FIELD: Final = "total_backlog_seconds"


def by_keda(settings: OperatorSettings, capabilities: Capabilities) -> bool:
    """Whether KEDA scales: it is installed and knows where to ask for the backlog."""
    return settings.backlog_url is not None and capabilities.serves(SCALED_OBJECT)


def autoscaler(
    service: Service, target: Manifest, settings: OperatorSettings, capabilities: Capabilities
) -> Manifest | None:
    """The autoscaler of the workload `target`; None where nothing scales by itself."""
    scaling = service.spec.scaling
    if scaling is None or service.spec.suspend:
        return None
    reference = {
        "apiVersion": target["apiVersion"],
        "kind": target["kind"],
        "name": target["metadata"]["name"],
    }
    if settings.backlog_url is not None and by_keda(settings, capabilities):
        return _scaled_object(service, scaling, reference, backlog_url=settings.backlog_url)
    return _horizontal_pod_autoscaler(service, scaling, reference)


def _scaled_object(
    service: Service, scaling: Scaling, reference: Manifest, *, backlog_url: str
) -> Manifest:
    query = urlencode({"namespace": service.namespace, "name": service.name})
    trigger: Manifest = {
        "type": "metrics-api",
        # The sum divided by the target: independent of how many replicas there are, so that
        # replicas which load their model do not make it ask for ever more.
        "metricType": "AverageValue",
        "metadata": {
            "url": f"{backlog_url}?{query}",
            "valueLocation": _BACKLOG_FIELD,
            "targetValue": str(scaling.target_backlog_seconds),
            "activationTargetValue": "0",
        },
    }
    return {
        "apiVersion": SCALED_OBJECT.api_version,
        "kind": SCALED_OBJECT.kind,
        "metadata": metadata(service, service.name),
        "spec": {
            "scaleTargetRef": reference,
            "pollingInterval": _POLLING_S if scaling.min_replicas else _WAKING_POLLING_S,
            # From the last moment with work, and only on the way to zero.
            "cooldownPeriod": scaling.idle_seconds,
            "minReplicaCount": scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            "advanced": {
                # Once it is gone, the replicas are the operator's, which keeps their number.
                "restoreToOriginalReplicaCount": False,
                "horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)},
            },
            "triggers": [trigger],
        },
    }


def _horizontal_pod_autoscaler(service: Service, scaling: Scaling, reference: Manifest) -> Manifest:
    metric: Manifest = {
        "type": "Pods",
        "pods": {
            "metric": {"name": names.METRIC_BACKLOG},
            "target": {
                "type": "AverageValue",
                "averageValue": str(scaling.target_backlog_seconds),
            },
        },
    }
    return {
        "apiVersion": HORIZONTAL_POD_AUTOSCALER.api_version,
        "kind": HORIZONTAL_POD_AUTOSCALER.kind,
        "metadata": metadata(service, service.name),
        "spec": {
            "scaleTargetRef": reference,
            # It cannot go to zero: from there no pod would tell that there is work.
            "minReplicas": max(1, scaling.min_replicas),
            "maxReplicas": scaling.max_replicas,
            "metrics": [metric],
            "behavior": _behavior(scaling),
        },
    }


def _behavior(scaling: Scaling) -> Manifest:
    """Up at once, for people wait; down after a calm, and by at most half in a minute."""
    window_s = min(scaling.idle_seconds, _LONGEST_WINDOW_S)
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 15},
                {"type": "Pods", "value": 4, "periodSeconds": 15},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": window_s,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 50, "periodSeconds": 60},
                {"type": "Pods", "value": 1, "periodSeconds": 60},
            ],
        },
    }
