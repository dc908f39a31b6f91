"""Secrets of the doors as volumes of the sidecar. The operator itself reads none."""

from __future__ import annotations

from typing import Final

from llmservice_api import names
from llmservice_api.sidecar_config import SecurityConfig
from llmservice_api.spec import Security

from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

# For everybody in the container, and only the sidecar mounts them: for a group of ours alone the
# pod would need an fsGroup, and with it a change of owner of every file of the model's volume.
_MODE: Final = 0o444
_KEYS_VOLUME: Final = "api-keys"
_TLS_VOLUME: Final = "tls"


def security_config(service: Service) -> SecurityConfig:
    """Where the sidecar finds what guards its doors."""
    given = service.spec.security or Security()
    return SecurityConfig(
        api_keys_dir=None if given.api_key_secret_ref is None else names.API_KEYS_DIR,
        tls_dir=None if given.tls_secret_ref is None else names.TLS_DIR,
    )


def has_tls(service: Service) -> bool:
    """Whether the doors speak TLS."""
    return service.spec.security is not None and service.spec.security.tls_secret_ref is not None


def door_secrets(service: Service) -> dict[str, str]:
    """Field of the spec to the name of the Secret that has to be there."""
    given = service.spec.security or Security()
    found: dict[str, str] = {}
    if given.api_key_secret_ref is not None:
        found["spec.security.apiKeySecretRef"] = given.api_key_secret_ref.name
    if given.tls_secret_ref is not None:
        found["spec.security.tlsSecretRef"] = given.tls_secret_ref.name
    return found


def secret_volumes(service: Service) -> list[Manifest]:
    """The pod's volumes. None is optional: without its Secret a pod does not start, open or not."""
    given = service.spec.security or Security()
    volumes: list[Manifest] = []
    if given.api_key_secret_ref is not None:
        keys = _source(given.api_key_secret_ref.name)
        if given.api_key_secret_ref.key is not None:
            chosen = given.api_key_secret_ref.key
            keys["items"] = [{"key": chosen, "path": chosen}]
        volumes.append({"name": _KEYS_VOLUME, "secret": keys})
    if given.tls_secret_ref is not None:
        pair = _source(given.tls_secret_ref.name)
        pair["items"] = [{"key": name, "path": name} for name in ("tls.crt", "tls.key")]
        volumes.append({"name": _TLS_VOLUME, "secret": pair})
    return volumes


def secret_mounts(service: Service) -> list[Manifest]:
    """The sidecar's mounts: directories, for a file alone never sees an update."""
    given = service.spec.security or Security()
    mounts: list[Manifest] = []
    if given.api_key_secret_ref is not None:
        mounts.append({"name": _KEYS_VOLUME, "mountPath": names.API_KEYS_DIR, "readOnly": True})
    if given.tls_secret_ref is not None:
        mounts.append({"name": _TLS_VOLUME, "mountPath": names.TLS_DIR, "readOnly": True})
    return mounts


def _source(name: str) -> Manifest:
    return {"secretName": name, "defaultMode": _MODE}
