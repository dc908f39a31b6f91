"""The download: its container between sidecar and engine, and the claim that it may write to."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final

import msgspec
from llmservice_api import names
from llmservice_api.spec import Model

from llmservice_operator.desired import model_source as source
from llmservice_operator.desired.metadata import metadata
from llmservice_operator.desired.model_volumes import cache_mount, delivery_mount
from llmservice_operator.desired.security import container_security
from llmservice_operator.kube_json import Manifest, entries
from llmservice_operator.service import Service

_RESOURCES: Final[Manifest] = {"requests": {"cpu": "250m", "memory": "256Mi"}}
# Where the libraries look for the Secret's value.
_SECRET_VARIABLES: Final = {"hf": "HF_TOKEN", "s3": "LLMSERVICE_S3_CREDENTIALS"}


def fetch_containers(service: Service, *, image: str) -> list[Manifest]:
    """The init container `fetch`; none when nothing is downloaded."""
    wanted = source.downloads(service.spec)
    if not wanted:
        return []
    model = service.spec.model
    arguments = [f"--cache={names.CACHE_DIR}", f"--out={names.DELIVERY_DIR}"]
    arguments += [f"--get={link}={uri}" for link, uri in wanted.items()]
    if model.revision is not None and names.MODEL_LINK in wanted:
        arguments.append(f"--revision={model.revision}")
    arguments.append(f"--pin={_pin(service)}")
    return [
        {
            "name": names.CONTAINER_FETCH,
            "image": image,
            "command": ["python", "-m", "llmservice_sidecar.fetch"],
            "args": arguments,
            "env": [
                {"name": "HF_HOME", "value": "/tmp/huggingface"},  # noqa: S108 - an emptyDir
                {
                    "name": "POD_NAME",
                    "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
                },
                *_secrets(model, tuple(wanted.values())),
            ],
            "resources": _RESOURCES,
            "securityContext": container_security(),
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir
                cache_mount(service, writes=True),
                delivery_mount(writes=True),
            ],
        }
    ]


def cache_claims(service: Service) -> tuple[Manifest, ...]:
    """The claim that the operator makes for `spec.model.cache.size`, if it does."""
    cache = service.spec.model.cache
    if cache is None or cache.size is None or not source.downloads(service.spec):
        return ()
    spec: Manifest = {
        "accessModes": list(cache.access_modes),
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    return (
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(service, source.made_claim(service)),
            "spec": spec,
        },
    )


def fetched(pod: Manifest, service: Service) -> bool:
    """Whether a pod was made to download what the service asks for now."""
    containers = entries(pod, "spec", "initContainers")
    return any(
        f"--pin={_pin(service)}" in container.get("args", ())
        for container in containers
        if container["name"] == names.CONTAINER_FETCH
    )


def _pin(service: Service) -> str:
    """Replicas with the same pin serve the same commit of a branch, whenever they start."""
    model = service.spec.model
    told = [service.restarted_at, model.revision, list(source.downloads(service.spec).items())]
    digest = hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:12]
    return f"{service.namespace}.{service.name}-{digest}"


def _secrets(model: Model, uris: Collection[str]) -> list[Manifest]:
    """The Secret's value, for the model's scheme; for those of adapters if it brings no model."""
    reference = model.token_secret_ref
    if reference is None:
        return []
    used = {source.scheme(uri) for uri in ((model.uri,) if model.uri in uris else uris)}
    return [
        {
            "name": variable,
            "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}},
        }
        for scheme, variable in _SECRET_VARIABLES.items()
        if scheme in used
    ]
