"""The pod's volumes for model, adapters and predictor, and who mounts them where."""

from __future__ import annotations

from llmservice_api import names

from llmservice_operator.desired import model_source as source
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

_CACHE = "models"
_DELIVERY = "delivery"


def model_volumes(service: Service, *, pull_policy: str) -> list[Manifest]:
    """All of them; a `file://` model brings its own by `spec.template`."""
    volumes: list[Manifest] = [
        {"name": name, "image": {"reference": reference, "pullPolicy": pull_policy}}
        for name, reference in _images(service).items()
    ]
    cache = source.cache_claim(service)
    for claim, name in _claims(service).items():
        # The download writes; all others mount the claim read-only.
        what = {"claimName": claim} if claim == cache else {"claimName": claim, "readOnly": True}
        volumes.append({"name": name, "persistentVolumeClaim": what})
    if source.downloads(service.spec):
        if cache is None:
            volumes.append({"name": _CACHE, "emptyDir": {}})
        volumes.append({"name": _DELIVERY, "emptyDir": {"sizeLimit": "1Mi"}})
    return volumes


def model_mounts(service: Service) -> list[Manifest]:
    """The engine's mounts: all read-only."""
    uri = service.spec.model.uri
    mounts: dict[str, str] = {}  # path to volume
    if source.image_reference(uri) is not None:
        mounts[source.model_mount()] = "model"
    for adapter in source.adapters(service.spec):
        if source.image_reference(adapter.uri) is not None:
            mounts[source.adapter_mount(adapter)] = adapter.slot
    claims = _claims(service)
    for each in (uri, *(adapter.uri for adapter in source.adapters(service.spec))):
        claim, place = source.claim_name(each), source.claim_mount(service, each)
        if claim is not None and place is not None:
            mounts[place] = claims[claim]
    made = [
        {"name": volume, "mountPath": path, "readOnly": True}
        for path, volume in sorted(mounts.items())
    ]
    if source.downloads(service.spec):
        made += [cache_mount(service, writes=False), delivery_mount(writes=False)]
    return made


def predictor_mounts(service: Service) -> list[Manifest]:
    """The sidecar's mounts: the predictor, and what tells how far the download is."""
    made: list[Manifest] = []
    uri = source.predictor_source(service)
    if uri is not None and (volume := _predictor_volume(service, uri)):
        made.append({"name": volume, "mountPath": source.predictor_mount(), "readOnly": True})
    if source.downloads(service.spec):
        made.append(delivery_mount(writes=False))
    return made


def cache_mount(service: Service, *, writes: bool) -> Manifest:
    """The downloads."""
    claim = source.cache_claim(service)
    volume = _CACHE if claim is None else _claims(service)[claim]
    return _mount(volume, names.CACHE_DIR, writes=writes)


def delivery_mount(*, writes: bool) -> Manifest:
    """Links to what was downloaded, and the progress."""
    return _mount(_DELIVERY, names.DELIVERY_DIR, writes=writes)


def _mount(volume: str, path: str, *, writes: bool) -> Manifest:
    return {"name": volume, "mountPath": path} | ({} if writes else {"readOnly": True})


def _predictor_volume(service: Service, uri: str) -> str | None:
    claim = source.claim_name(uri)
    if claim is not None:
        return _claims(service)[claim]
    return "predictor" if source.image_reference(uri) is not None else None


def _images(service: Service) -> dict[str, str]:
    """Volume name to image."""
    wanted = {"model": service.spec.model.uri}
    wanted |= {adapter.slot: adapter.uri for adapter in source.adapters(service.spec)}
    wanted["predictor"] = source.predictor_source(service) or ""
    found = {name: source.image_reference(uri) for name, uri in wanted.items()}
    return {name: reference for name, reference in found.items() if reference is not None}


def _claims(service: Service) -> dict[str, str]:
    """Claim to volume name: each claim once, a kubelet waits for ever for a second one."""
    wanted = [("model", source.claim_name(service.spec.model.uri))]
    wanted += [
        (adapter.slot, source.claim_name(adapter.uri)) for adapter in source.adapters(service.spec)
    ]
    wanted.append(("predictor", source.claim_name(source.predictor_source(service) or "")))
    wanted.append((_CACHE, source.cache_claim(service)))
    volumes: dict[str, str] = {}
    for name, claim in wanted:
        if claim is not None:
            volumes.setdefault(claim, name)
    return volumes
