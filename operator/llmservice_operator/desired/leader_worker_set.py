"""The LeaderWorkerSet of replicas that span nodes: a leader with the sidecar, and workers."""

from __future__ import annotations

from typing import Final

from llmservice_api import names

from llmservice_operator.desired.deployment import (
    desired_replicas,
    pod_template,
    rendering_record,
)
from llmservice_operator.desired.metadata import metadata
from llmservice_operator.kinds import LEADER_WORKER_SET
from llmservice_operator.kube_json import Manifest, entries
from llmservice_operator.service import Rendering, Service

_CONTAINERS: Final = ("initContainers", "containers")


def leader_worker_set(service: Service, *, rendered: Rendering, pull_policy: str) -> Manifest:
    """The LeaderWorkerSet; without `replicas` when something else scales it."""
    spec = service.spec
    leader = pod_template(service, rendered=rendered, pull_policy=pull_policy)
    worker = pod_template(service, rendered=rendered, pull_policy=pull_policy, worker=True)
    body: Manifest = {
        "leaderWorkerTemplate": {
            "size": spec.parallelism.nodes,
            # A replica that has lost one of its nodes answers nothing: all start together.
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": leader,
            "workerTemplate": _without_sidecar(worker),
        },
        "networkConfig": {"subdomainPolicy": "Shared"},
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {
                "maxUnavailable": spec.rollout_strategy.max_unavailable,
                "maxSurge": spec.rollout_strategy.max_surge,
            },
        },
        # The leader is ready only once its workers have joined.
        "startupPolicy": "LeaderCreated",
    }
    replicas = desired_replicas(service)
    if replicas is not None:
        body["replicas"] = replicas
    return {
        "apiVersion": LEADER_WORKER_SET.api_version,
        "kind": LEADER_WORKER_SET.kind,
        "metadata": metadata(
            service, service.workload_name, annotations=rendering_record(rendered)
        ),
        "spec": body,
    }


def _without_sidecar(template: Manifest) -> Manifest:
    spec: Manifest = {**template["spec"]}
    spec["initContainers"] = [
        container
        for container in entries(spec, "initContainers")
        if container["name"] != names.CONTAINER_SIDECAR
    ]
    containers = [container for field in _CONTAINERS for container in entries(spec, field)]
    mounted = {
        mount["name"] for container in containers for mount in entries(container, "volumeMounts")
    }
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] in mounted]
    return {**template, "spec": spec}
