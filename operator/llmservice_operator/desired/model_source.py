"""Where the model and the predictor come from: URI schemes, and the volumes that claims need."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from llmservice_api.sidecar_config import PredictorMode

from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

SUPPORTED_SCHEMES: Final = ("file", "pvc")
_MOUNT: Final = "/mnt/models"
_VOLUME: Final = "model"
_PREDICTOR_MOUNT: Final = "/mnt/predictor"
_PREDICTOR_VOLUME: Final = "predictor"


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


def predictor_uri(service: Service) -> str | None:
    """Where the sidecar finds the predictor in its container, as file:///path.

    A claim's path is taken literally, as the model's is: what looks encoded stays a name.
    """
    uri = service.spec.predictor.uri
    if uri is None or claim_name(uri) is None:
        return uri
    path = uri.partition("://")[2].partition("/")[2].strip("/")
    return f"file://{_PREDICTOR_MOUNT}/{quote(path)}"


def predictor_volumes(service: Service) -> list[Manifest]:
    """The pod's volume for the predictor; a `file://` one brings its own by `spec.template`."""
    claim = _predictor_claim(service)
    if claim is None:
        return []
    source = {"claimName": claim, "readOnly": True}
    return [{"name": _PREDICTOR_VOLUME, "persistentVolumeClaim": source}]


def predictor_mounts(service: Service) -> list[Manifest]:
    """The sidecar's mount of that volume."""
    if _predictor_claim(service) is None:
        return []
    return [{"name": _PREDICTOR_VOLUME, "mountPath": _PREDICTOR_MOUNT, "readOnly": True}]


def _predictor_claim(service: Service) -> str | None:
    predictor = service.spec.predictor
    if predictor.uri is None or predictor.mode is PredictorMode.DISABLED:
        return None  # it is not even read
    return claim_name(predictor.uri)
