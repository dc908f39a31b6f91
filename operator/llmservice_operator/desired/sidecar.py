"""The sidecar's container: a native sidecar, so it starts before the engine and ends after it."""

from __future__ import annotations

from typing import Final

from llmservice_api import names

from llmservice_operator.desired.secrets import secret_mounts
from llmservice_operator.desired.security import container_security
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

_FIELDS: Final = {
    "NODE_NAME": "spec.nodeName",
    "POD_IP": "status.podIP",
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_UID": "metadata.uid",
}
# The predictor's linear algebra is small: more threads only cost memory, one per core of the node.
_VALUES: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_RESOURCES: Final[Manifest] = {"requests": {"cpu": "250m", "memory": "256Mi"}}


def sidecar_container(service: Service, *, image: str) -> Manifest:
    """The init container `sidecar` that keeps running."""
    ports = {"http": names.PORT_HTTP, "grpc": names.PORT_GRPC, "ops": names.PORT_OPS}
    return {
        "name": names.CONTAINER_SIDECAR,
        "image": image,
        "restartPolicy": "Always",
        "command": ["python", "-m", "llmservice_sidecar", "--config-dir", names.CONFIG_DIR],
        "env": [
            *({"name": name, "value": value} for name, value in _VALUES.items()),
            *(
                {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
                for name, path in _FIELDS.items()
            ),
        ],
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()
        ],
        "resources": service.spec.predictor.resources or _RESOURCES,
        "securityContext": container_security(),
        "volumeMounts": [
            # The directory, not a file of it: a file mount never sees an update.
            {"name": "config", "mountPath": names.CONFIG_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir
            {"name": "learned", "mountPath": names.PREDICTOR_STATE_DIR},
            {
                "name": "inherited",
                "mountPath": names.PREDICTOR_INHERITED_DIR,
                "readOnly": True,
            },
            *secret_mounts(service),
        ],
        # Cheap and without the engine: the engine starts only after it has succeeded.
        "startupProbe": _probe("/healthz", period_s=1, failures=60),
        "livenessProbe": _probe("/healthz", period_s=10, failures=6),
        "readinessProbe": _probe("/readyz", period_s=2, failures=2),
    }


def _probe(path: str, *, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "ops"},
        "periodSeconds": period_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
