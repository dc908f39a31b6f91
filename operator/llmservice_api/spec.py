"""The types of an LLMService's `spec`: the CRD's fields and defaults, frozen. No Kubernetes client.

`crds/llmservice.yaml` says the same in OpenAPI; a contract test keeps the two equal. Names are the
manifest's in snake_case; `None` means absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from llmservice_api.sidecar_config import PredictorMode
from llmservice_api.stated import stated

JsonObject = dict[str, Any]  # Kubernetes JSON that is passed on as it is
PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
IntOrPercent = int | str


class SpecError(ValueError):
    """A spec is refused; the message names the JSON path and what was wrong there."""


class Device(StrEnum):
    """What the engine computes on."""

    GPU = "GPU"
    CPU = "CPU"


class Switch(StrEnum):
    """A feature that is on or off; words, because YAML reads on and off as booleans."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class _Strict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """Base: immutable, every field by name, unknown fields refused."""


class SecretKeyRef(_Strict, frozen=True):
    """One key of a Secret in the service's namespace."""

    name: str
    key: str


class LoraAdapter(_Strict, frozen=True):
    """A further model name, served by the same engine."""

    name: str
    uri: str


class Lora(_Strict, frozen=True):
    """Adapters loaded beside the model."""

    max_adapters: PositiveInt | None = None
    max_rank: PositiveInt | None = None
    adapters: tuple[LoraAdapter, ...] = ()


class ModelCache(_Strict, frozen=True):
    """Where downloads are kept: an existing claim, or one that is made with `size`."""

    claim_name: str | None = None
    storage_class_name: str | None = None
    size: str | None = None
    access_modes: tuple[str, ...] = ("ReadWriteMany",)


class Model(_Strict, frozen=True):
    """What is served and under which name."""

    uri: str
    name: str | None = None
    revision: str | None = None
    token_secret_ref: SecretKeyRef | None = None
    cache: ModelCache | None = None
    lora: Lora | None = None


class Engine(_Strict, frozen=True):
    """The vLLM container."""

    image: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[JsonObject, ...] = ()
    resources: JsonObject | None = None
    device: Device = Device.GPU
    gpu_resource: str = "nvidia.com/gpu"
    max_num_seqs: Annotated[int, Meta(ge=1, le=4096)] = 128
    max_model_len: PositiveInt | None = None
    startup_timeout_seconds: PositiveInt = 1800
    allowed_extra_args: tuple[str, ...] = ()


class Parallelism(_Strict, frozen=True):
    """How one replica is spread over devices and nodes."""

    tensor: PositiveInt = 1
    pipeline: PositiveInt = 1
    data: PositiveInt = 1
    nodes: PositiveInt = 1


class Scaling(_Strict, frozen=True):
    """Automatic scaling; excludes `replicas`."""

    max_replicas: PositiveInt
    min_replicas: NonNegativeInt = 1
    target_backlog_seconds: PositiveInt = 30
    idle_seconds: PositiveInt = 300


class PriorityLevel(_Strict, frozen=True):
    """A named class of requests with a cap of its own, in slots."""

    name: str
    value: int
    max_concurrency: PositiveInt | None = None


class Fairness(_Strict, frozen=True):
    """Who a request belongs to."""

    tenant_header: str = "x-gateway-inference-fairness-id"


class Queue(_Strict, frozen=True):
    """Order and bounds of the queue in every sidecar."""

    policy: str = "SSJF"
    tail_weight_percent: NonNegativeInt = 100
    max_concurrency: PositiveInt | None = None
    target_time_per_output_token_milliseconds: PositiveInt | None = None
    max_queued_requests: NonNegativeInt = 1024
    max_queued_tokens: PositiveInt | None = None
    queue_timeout_seconds: PositiveInt = 600
    promote_after_seconds: PositiveInt | None = None
    priority_levels: tuple[PriorityLevel, ...] = ()
    fairness: Fairness = Fairness()
    policy_parameters: dict[str, str] = {}


class Calibration(_Strict, frozen=True):
    """When the guard judges the predictor, and over how many requests."""

    min_samples: PositiveInt = 200
    window_samples: PositiveInt = 2000


class Predictor(_Strict, frozen=True):
    """What predicts answer lengths and whether the order follows it."""

    mode: PredictorMode = PredictorMode.ENFORCE
    kind: str = "Default"
    uri: str | None = None
    timeout_milliseconds: PositiveInt = 5
    online_learning: Switch = Switch.ENABLED
    calibration: Calibration = Calibration()
    resources: JsonObject | None = None


class ParentRef(_Strict, frozen=True):
    """A Gateway (or what else routes attach to); the names are the Gateway API's."""

    name: str
    namespace: str | None = None
    group: str | None = None
    kind: str | None = None
    section_name: str | None = None
    port: PositiveInt | None = None


class PortNumber(_Strict, frozen=True):
    """A port as the inference extension writes it."""

    number: PositiveInt


class EndpointPickerRef(_Strict, frozen=True):
    """Who chooses a replica for a request; the names are the inference extension's."""

    name: str
    group: str | None = None
    kind: str = "Service"
    port: PortNumber | None = None
    failure_mode: str | None = None


class InferencePool(_Strict, frozen=True):
    """Gateway API inference extension."""

    endpoint_picker_ref: EndpointPickerRef


class Router(_Strict, frozen=True):
    """Routes from gateways; absent: none are made."""

    parent_refs: tuple[ParentRef, ...] = ()
    hostnames: tuple[str, ...] = ()
    grpc_hostnames: tuple[str, ...] = ()
    inference_pool: InferencePool | None = None


class ApiKeySecretRef(_Strict, frozen=True):
    """A Secret whose entries are clients by name, with their keys; `key`: of one entry alone."""

    name: str
    key: str | None = None


class TlsSecretRef(_Strict, frozen=True):
    """A Secret of type kubernetes.io/tls."""

    name: str


class Security(_Strict, frozen=True):
    """Who may talk to the doors and how."""

    api_key_secret_ref: ApiKeySecretRef | None = None
    tls_secret_ref: TlsSecretRef | None = None


class Tracing(_Strict, frozen=True):
    """Where spans go. The names are KServe's."""

    exporter_endpoint: str | None = None
    exporter: str = "otlp"
    sampler: str = "parentbased_traceidratio"
    sampler_arg: str = "1.0"


class Monitoring(_Strict, frozen=True):
    """Objects for the Prometheus operator."""

    pod_monitor: Switch = Switch.DISABLED


class DisruptionBudget(_Strict, frozen=True):
    """How many replicas a voluntary disruption may take."""

    max_unavailable: IntOrPercent = 1


class RolloutStrategy(_Strict, frozen=True):
    """How a new pod template replaces the old one."""

    max_unavailable: IntOrPercent = 0
    max_surge: IntOrPercent = 1


class PodTemplate(_Strict, frozen=True):
    """Strategic overlay on the rendered pod."""

    metadata: JsonObject = {}
    spec: JsonObject = {}


class Spec(_Strict, frozen=True):
    """The whole `spec` of an LLMService."""

    model: Model
    engine: Engine = Engine()
    parallelism: Parallelism = Parallelism()
    replicas: NonNegativeInt | None = None
    scaling: Scaling | None = None
    queue: Queue = Queue()
    predictor: Predictor = Predictor()
    router: Router | None = None
    security: Security | None = None
    tracing: Tracing | None = None
    monitoring: Monitoring = Monitoring()
    drain_timeout_seconds: PositiveInt = 300
    disruption_budget: DisruptionBudget = DisruptionBudget()
    rollout_strategy: RolloutStrategy = RolloutStrategy()
    suspend: bool = False
    template: PodTemplate | None = None


def parse_spec(raw: Mapping[str, Any]) -> Spec:
    """The typed spec. Raises SpecError naming the JSON path (`$.engine.maxNumSeqs`)."""
    try:
        return msgspec.convert(raw, type=Spec)
    except msgspec.ValidationError as error:
        text = str(error)
        where = "" if " - at `" in text else " - at `$`"
        raise SpecError(f"spec: {text}{where}".replace("`$", "`spec")) from error


def encode_spec(spec: Spec) -> JsonObject:
    """The spec as Kubernetes JSON, without what has its default; parsed it is an equal spec."""
    raw: JsonObject = msgspec.to_builtins(stated(spec))
    return raw
