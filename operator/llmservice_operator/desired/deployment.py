"""The Deployment: one pod template with engine and sidecar."""

from __future__ import annotations

from typing import Final

import msgspec
from llmservice_api import names
from llmservice_api.spec import Device

from llmservice_operator.desired.config import static_hash
from llmservice_operator.desired.engine import engine_container
from llmservice_operator.desired.metadata import labels, metadata, selector
from llmservice_operator.desired.model_fetch import fetch_containers
from llmservice_operator.desired.model_source import cache_claim, downloads
from llmservice_operator.desired.model_volumes import (
    model_mounts,
    model_volumes,
    predictor_mounts,
)
from llmservice_operator.desired.overlay import overlay
from llmservice_operator.desired.parallel import worker_container
from llmservice_operator.desired.secrets import has_tls, secret_volumes
from llmservice_operator.desired.security import pod_security
from llmservice_operator.desired.sidecar import sidecar_container
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Rendering, Service

# preStop counts against the grace period: the drain, then the engine's and the sidecar's own end.
_GRACE_AFTER_DRAIN_S: Final = 30
_PROGRESS_AFTER_STARTUP_S: Final = 300
_PROGRESS_OF_DOWNLOAD_S: Final = 7200  # before the engine even starts
_SPREAD_OVER: Final = ("kubernetes.io/hostname", "topology.kubernetes.io/zone")


def deployment(service: Service, *, rendered: Rendering, pull_policy: str) -> Manifest:
    """The Deployment; without `replicas` when something else scales it."""
    spec = service.spec
    body: Manifest = {
        "selector": {"matchLabels": selector(service)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
                "maxUnavailable": spec.rollout_strategy.max_unavailable,
                "maxSurge": spec.rollout_strategy.max_surge,
            },
        },
        "progressDeadlineSeconds": (
            spec.engine.startup_timeout_seconds
            + _PROGRESS_AFTER_STARTUP_S
            + (_PROGRESS_OF_DOWNLOAD_S if downloads(spec) else 0)
        ),
        "revisionHistoryLimit": 3,
        "template": pod_template(service, rendered=rendered, pull_policy=pull_policy),
    }
    replicas = desired_replicas(service)
    if replicas is not None:
        body["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(service, service.name, annotations=rendering_record(rendered)),
        "spec": body,
    }


def desired_replicas(service: Service) -> int | None:
    """How many replicas to ask for; None when the number belongs to an autoscaler."""
    if service.spec.suspend:
        return 0
    if service.spec.scaling is not None:
        return None
    return 1 if service.spec.replicas is None else service.spec.replicas


def rendering_record(rendered: Rendering) -> dict[str, str]:
    """The annotation by which a later operator knows with what the workload was made."""
    return {names.ANNOTATION_RENDERING: msgspec.json.encode(rendered, order="sorted").decode()}


def pod_template(
    service: Service, *, rendered: Rendering, pull_policy: str, worker: bool = False
) -> Manifest:
    """The pod template, with `spec.template` laid over it; a worker's engine serves nobody."""
    engine = engine_container(service, image=rendered.engine_image)
    if worker:
        engine = worker_container(engine, service)
    engine["volumeMounts"] += model_mounts(service)
    sidecar = sidecar_container(service, image=rendered.sidecar_image)
    sidecar["volumeMounts"] += predictor_mounts(service)
    fetch = fetch_containers(service, image=rendered.sidecar_image)
    for container in (engine, sidecar, *fetch):
        container["imagePullPolicy"] = pull_policy
        # The last lines of the log, for the status of a container that ended in an error.
        container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    annotations = {
        "kubectl.kubernetes.io/default-container": names.CONTAINER_ENGINE,
        names.ANNOTATION_STATIC_HASH: static_hash(service),
    }
    if has_tls(service):
        annotations["prometheus.io/scheme"] = "https"  # for what scrapes all services alike
    if service.restarted_at:
        annotations[names.ANNOTATION_RESTARTED_AT] = service.restarted_at
    template: Manifest = {
        "metadata": {"labels": labels(service), "annotations": annotations},
        "spec": {
            "serviceAccountName": service.name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": (
                service.spec.drain_timeout_seconds + _GRACE_AFTER_DRAIN_S
            ),
            "securityContext": pod_security(writes_claim=cache_claim(service) is not None),
            "topologySpreadConstraints": _spread(service),
            "initContainers": [sidecar, *fetch],
            "containers": [engine],
            "volumes": [*_volumes(service), *model_volumes(service, pull_policy=pull_policy)],
        },
    }
    return overlay(template, service.spec.template)


def _spread(service: Service) -> list[Manifest]:
    """Replicas apart from each other where there is room, so that a node or zone takes only some.

    The scheduler's own default lets three replicas stand on one node.
    """
    if service.spec.parallelism.nodes > 1:
        return []  # the pods of one replica belong close together
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            # A replica that stands badly serves; one that waits for a better place does not.
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(service)},
            # Each rollout by itself: the pods that are about to leave do not count.
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in _SPREAD_OVER
    ]


def _volumes(service: Service) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": service.config_map}},
        {"name": "tmp", "emptyDir": {}},
        # What the predictor learns: across restarts of the container, and from pod to pod.
        {"name": "learned", "emptyDir": {"sizeLimit": "16Mi"}},
        {"name": "inherited", "configMap": {"name": service.snapshot_map, "optional": True}},
        *secret_volumes(service),
    ]
    if service.spec.engine.device is Device.GPU:
        # NCCL and vLLM's workers share tensors there; the default is 64 MiB.
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    return volumes
