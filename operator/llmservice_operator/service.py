"""One LLMService as the operator sees it: identity and typed spec; not what exists of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from llmservice_api import names
from llmservice_api.sidecar_config import PredictorMode
from llmservice_api.spec import Spec, SpecError, encode_spec, parse_spec

from llmservice_operator.defaults import NO_DEFAULTS, Defaults
from llmservice_operator.kube_json import Manifest, section

RENDERING_VERSION = 2

# What never reaches the pod template: a change of these restarts nothing, so it does not end the
# life of a recorded rendering either.
_LIVE_FIELDS = (
    "replicas",
    "scaling",
    "suspend",
    "disruptionBudget",
    "rolloutStrategy",
    "router",
    "monitoring",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Default images; `spec.engine.image` replaces the engine's."""

    sidecar: str
    engine: str
    engine_cpu: str


class Rendering(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """With what a workload was rendered: kept until its inputs change, whoever runs the operator.

    `inputs` is the hash of the part of the spec that reaches the pod template; `defaults` are the
    cluster's for what the spec leaves out.
    """

    version: int
    inputs: str
    sidecar_image: str
    engine_image: str
    defaults: Defaults = NO_DEFAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An LLMService: who it is, what it asks for, and how its workload was rendered before."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: Spec
    restarted_at: str = ""
    recorded: Rendering | None = None

    @property
    def model_name(self) -> str:
        """The name clients use."""
        return self.spec.model.name or self.name

    @property
    def workload_name(self) -> str:
        """The name of the Deployment or LeaderWorkerSet.

        A LeaderWorkerSet makes a headless Service of its own name, which must not be ours.
        """
        return self.name if self.spec.parallelism.nodes == 1 else f"{self.name}-nodes"

    @property
    def config_map(self) -> str:
        """The ConfigMap that is mounted into every sidecar."""
        return f"{self.name}-config"

    @property
    def snapshot_map(self) -> str:
        """The ConfigMap with what the predictor has learned, where new pods start."""
        return f"{self.name}-predictor"


def parse_service(manifest: Mapping[str, Any], *, recorded: Rendering | None = None) -> Service:
    """Read an LLMService manifest (from a file or from the API server).

    Raises SpecError naming the JSON path of the first field that is wrong.
    """
    kind = (manifest.get("apiVersion"), manifest.get("kind"))
    if kind != (names.API_VERSION, names.KIND):
        raise SpecError(
            f"apiVersion/kind is {kind[0]}/{kind[1]}; expected {names.API_VERSION}/{names.KIND}"
        )
    metadata = section(manifest, "metadata")
    if not metadata.get("name"):
        raise SpecError("metadata.name: is missing; give the service a name")
    if not isinstance(manifest.get("spec"), Mapping):
        raise SpecError("spec: is missing; at least spec.model.uri is required")
    annotations = section(metadata, "annotations")
    return Service(
        name=metadata["name"],
        namespace=metadata.get("namespace") or "default",
        uid=metadata.get("uid") or "",
        generation=metadata.get("generation") or 0,
        spec=parse_spec(manifest["spec"]),
        restarted_at=annotations.get(names.ANNOTATION_RESTARTED_AT, ""),
        recorded=recorded,
    )


def rendering(service: Service, images: Images, defaults: Defaults = NO_DEFAULTS) -> Rendering:
    """The rendering to use: the recorded one while its inputs are the same, else today's.

    An operator upgrade, or other defaults, thus restart nothing; the next change that restarts
    pods anyway, or `llmservice.dev/restartedAt`, moves the workload to what is new.
    """
    inputs = _inputs(service)
    recorded = service.recorded
    if recorded and recorded.version == RENDERING_VERSION and recorded.inputs == inputs:
        return recorded
    default = images.engine_cpu if service.spec.engine.device == "CPU" else images.engine
    return Rendering(
        version=RENDERING_VERSION,
        inputs=inputs,
        sidecar_image=images.sidecar,
        engine_image=service.spec.engine.image or default,
        defaults=defaults,
    )


def recorded_rendering(workload: Manifest | None) -> Rendering | None:
    """What a live workload was rendered with; None when it is absent or says nothing readable."""
    text = section(workload, "metadata", "annotations").get(names.ANNOTATION_RENDERING)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Rendering)
    except msgspec.DecodeError:
        # Edited by hand or written by another version: today's rendering replaces it.
        return None


def _inputs(service: Service) -> str:
    spec = encode_spec(service.spec)
    for field in _LIVE_FIELDS:
        spec.pop(field, None)
    queue, predictor = spec.pop("queue", {}), spec.pop("predictor", {})
    predictor.pop("mode", None)
    predicts = service.spec.predictor.mode is not PredictorMode.DISABLED
    spec.get("tracing", {}).pop("samplerArg", None)
    # The claim that is made; the pods only have its name.
    for field in ("size", "storageClassName", "accessModes"):
        spec["model"].get("cache", {}).pop(field, None)
    parts = [spec, predictor, predicts, queue.get("fairness"), service.restarted_at]
    text = msgspec.json.encode(parts, order="sorted")
    return hashlib.sha256(text).hexdigest()[:16]
