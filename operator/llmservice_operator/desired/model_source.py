"""Where a model comes from: URI schemes, and the volume that a claim needs."""

from __future__ import annotations

from typing import Final

from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

SUPPORTED_SCHEMES: Final = ("file", "pvc")
_MOUNT: Final = "/mnt/models"
_VOLUME: Final = "model"


def scheme(uri: str) -> str:
    """The part before `://`."""
    return uri.partition("://")[0]


def supported(service: Service) -> bool:
    """Whether this version can serve the model's scheme."""
    return scheme(service.spec.model.uri) in SUPPORTED_SCHEMES


def claim_name(uri: str) -> str | None:
    """The PersistentVolumeClaim of `pvc://claim/path`, None for other schemes."""
    if scheme(uri) != "pvc":
        return None
    return uri.partition("://")[2].partition("/")[0]


def model_path(uri: str) -> str:
    """Where the engine finds the model in its container."""
    rest = uri.partition("://")[2]
    if scheme(uri) == "pvc":
        path = rest.partition("/")[2].strip("/")
        return f"{_MOUNT}/{path}" if path else _MOUNT
    return rest


def model_volumes(service: Service) -> list[Manifest]:
    """The pod's volume for the model; a `file://` model brings its own by `spec.template`."""
    claim = claim_name(service.spec.model.uri)
    if claim is None:
        return []
    return [
        {"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
    ]


def model_mounts(service: Service) -> list[Manifest]:
    """The engine's mount of that volume."""
    if claim_name(service.spec.model.uri) is None:
        return []
    return [{"name": _VOLUME, "mountPath": _MOUNT, "readOnly": True}]
