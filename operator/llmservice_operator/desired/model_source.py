"""What the URIs of model, adapters and predictor mean: paths in containers. Makes no manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from llmservice_api import names
from llmservice_api.sidecar_config import PredictorMode
from llmservice_api.spec import LoraAdapter, Spec

from llmservice_operator.service import Service

SUPPORTED_SCHEMES: Final = ("hf", "s3", "oci", "pvc", "file")
_DOWNLOADED: Final = ("hf", "s3")
_MODEL_MOUNT: Final = "/mnt/models"
_PREDICTOR_MOUNT: Final = "/mnt/predictor"
_ADAPTERS_MOUNT: Final = "/mnt/adapters"
_CLAIMS_MOUNT: Final = "/mnt/claims"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter: the name that clients send, and its place in the pod.

    `slot` names its volume, its mount or its link; names of adapters may hold any character.
    """

    name: str
    uri: str
    slot: str


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


def image_reference(uri: str) -> str | None:
    """The image of `oci://image#path`, None for other schemes."""
    if scheme(uri) != "oci":
        return None
    return uri.partition("://")[2].partition("#")[0]


def is_downloaded(uri: str) -> bool:
    """Whether the download program brings it."""
    return scheme(uri) in _DOWNLOADED


def adapters(spec: Spec) -> tuple[Adapter, ...]:
    """The adapters in the order of their names: their order in the spec means nothing."""
    given: Sequence[LoraAdapter] = spec.model.lora.adapters if spec.model.lora else ()
    ordered = sorted(given, key=lambda adapter: adapter.name)
    return tuple(
        Adapter(name=adapter.name, uri=adapter.uri, slot=f"adapter-{index}")
        for index, adapter in enumerate(ordered)
    )


def downloads(spec: Spec) -> Mapping[str, str]:
    """What the download program brings: the link's name to the URI, the model first."""
    wanted = {names.MODEL_LINK: spec.model.uri}
    wanted |= {adapter.slot: adapter.uri for adapter in adapters(spec)}
    return {link: uri for link, uri in wanted.items() if is_downloaded(uri)}


def model_path(service: Service) -> str:
    """Where the engine finds the model in its container."""
    return _path(service.spec.model.uri, mount=_MODEL_MOUNT, link=names.MODEL_LINK)


def adapter_path(service: Service, adapter: Adapter) -> str:
    """Where the engine finds an adapter in its container."""
    mount = claim_mount(service, adapter.uri) or f"{_ADAPTERS_MOUNT}/{adapter.slot}"
    return _path(adapter.uri, mount=mount, link=adapter.slot)


def model_mount() -> str:
    """Where an image or a claim with the model is mounted in the engine's container."""
    return _MODEL_MOUNT


def adapter_mount(adapter: Adapter) -> str:
    """Where an adapter's image is mounted in the engine's container."""
    return f"{_ADAPTERS_MOUNT}/{adapter.slot}"


def predictor_mount() -> str:
    """Where an image or a claim with the predictor is mounted in the sidecar's container."""
    return _PREDICTOR_MOUNT


def claim_mount(service: Service, uri: str) -> str | None:
    """Where a claim is mounted in the engine's container; None for other schemes."""
    claim = claim_name(uri)
    if claim is None:
        return None
    # A volume twice in one container is allowed, the same claim as two volumes is not.
    is_models = claim == claim_name(service.spec.model.uri)
    return _MODEL_MOUNT if is_models else f"{_CLAIMS_MOUNT}/{claim}"


def cache_claim(service: Service) -> str | None:
    """The claim that downloads are kept in; None: a volume of the pod's own."""
    cache = service.spec.model.cache
    if cache is None or not downloads(service.spec):
        return None
    return cache.claim_name or made_claim(service)


def made_claim(service: Service) -> str:
    """The name of the claim that the operator makes."""
    return f"{service.name}-models"


def needed_claims(service: Service) -> tuple[str, ...]:
    """The claims that somebody else has to make before the model can be reached."""
    cache = service.spec.model.cache
    uris = (service.spec.model.uri, *(adapter.uri for adapter in adapters(service.spec)))
    wanted = [claim_name(uri) for uri in uris]
    if cache is not None and downloads(service.spec):
        wanted.append(cache.claim_name)
    return tuple(dict.fromkeys(claim for claim in wanted if claim is not None))


def predictor_source(service: Service) -> str | None:
    """The predictor's URI; None when it is not even read."""
    predictor = service.spec.predictor
    return None if predictor.mode is PredictorMode.DISABLED else predictor.uri


def predictor_uri(service: Service) -> str | None:
    """Where the sidecar finds the predictor in its container, as file:///path.

    A path in a claim or an image is taken literally, as the model's is: what looks encoded stays a
    name.
    """
    uri = service.spec.predictor.uri
    if uri is None or scheme(uri) not in {"pvc", "oci"}:
        return uri
    path = _path(uri, mount=_PREDICTOR_MOUNT, link="")
    return f"file://{quote(path)}"


def _path(uri: str, *, mount: str, link: str) -> str:
    rest = uri.partition("://")[2]
    match scheme(uri):
        case "hf" | "s3":
            return f"{names.DELIVERY_DIR}/{link}"
        case "pvc":
            inside = rest.partition("/")[2]
        case "oci":
            inside = rest.partition("#")[2]
        case _:
            return rest
    inside = inside.strip("/")
    return f"{mount}/{inside}" if inside else mount
