"""What the operator tells a sidecar: `static.json` (a change restarts pods), `live.json` (re-read).

Both files are strict: an unknown field, a wrong type or a value out of bounds is refused with its
JSON path. Durations are float seconds, the suffix `_s` says so; tokens are ints.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from llmservice_api import names
from llmservice_api.stated import stated

Port = Annotated[int, Meta(ge=0, le=65535)]
PositiveInt = Annotated[int, Meta(ge=1)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
PositiveSeconds = Annotated[float, Meta(gt=0)]


class ConfigError(ValueError):
    """A configuration file is unreadable or refused; the message names file, path and cause."""


class PredictorMode(StrEnum):
    """Disabled loads nothing; Shadow predicts but serves in arrival order; Enforce orders."""

    DISABLED = "Disabled"
    SHADOW = "Shadow"
    ENFORCE = "Enforce"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: immutable, every field by name, unknown fields refused."""


class ModelConfig(_Strict, frozen=True):
    """The served model as clients name it; adapters are further names for the same engine."""

    name: str
    adapters: tuple[str, ...] = ()
    progress_path: str | None = None  # where the download program tells how far it is


class EngineConfig(_Strict, frozen=True):
    """The model server behind the sidecar and the bounds the operator gave it."""

    url: str = f"http://127.0.0.1:{names.PORT_ENGINE}"
    slots: PositiveInt = 128  # maxNumSeqs x data: requests the engine runs at once
    max_model_len: PositiveInt | None = None
    allowed_extra_args: tuple[str, ...] = ()  # vllm_xargs keys that clients may set


class ListenConfig(_Strict, frozen=True):
    """Where the doors listen. Port 0 lets the system choose (local mode, tests)."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod's door is reached from outside the pod
    http_port: Port = names.PORT_HTTP
    grpc_port: Port = names.PORT_GRPC
    ops_port: Port = names.PORT_OPS
    admin_host: str = "127.0.0.1"
    admin_port: Port = names.PORT_ADMIN


class CalibrationConfig(_Strict, frozen=True):
    """When the guard may judge the predictor, and over how many requests."""

    min_samples: PositiveInt = 200
    window_samples: PositiveInt = 2000


class KeepConfig(_Strict, frozen=True):
    """How what the predictor has learned is kept and shared; absent paths and host: it is not.

    `state_path` is written by this sidecar and read after a restart of its container;
    `inherited_path` is another's state, where a new pod starts; behind `peers_host` are the
    replicas that are asked for their statistics, each at `peers_port`.
    """

    state_path: str | None = None
    inherited_path: str | None = None
    peers_host: str | None = None
    peers_port: Port = names.PORT_OPS
    every_s: PositiveSeconds = 60.0


class PredictorConfig(_Strict, frozen=True):
    """Which predictor is loaded. `timeout_s` bounds how long a prediction may be waited for."""

    kind: str = "Default"
    uri: str | None = None
    timeout_s: PositiveSeconds = 0.005
    online_learning: bool = True
    calibration: CalibrationConfig = CalibrationConfig()
    keep: KeepConfig | None = None


class TracingConfig(_Strict, frozen=True):
    """OpenTelemetry export; absent endpoint means no spans leave the process."""

    exporter_endpoint: str | None = None
    exporter: str = "otlp"  # otlp (gRPC) | otlp-http | otlp-file | none
    sampler: str = "parentbased_traceidratio"
    sampler_arg: str = "1.0"
    resource_attributes: dict[str, str] = {}


class SecurityConfig(_Strict, frozen=True):
    """Where Secrets of the doors are mounted; re-read on change. None: no keys, no TLS."""

    api_keys_dir: str | None = None  # a file per client: its name is the tenant
    tls_dir: str | None = None  # tls.crt and tls.key


class StaticConfig(_Strict, frozen=True):
    """`static.json`: what a running sidecar cannot change. Its hash is on the pod template."""

    service: str  # metadata.name of the LLMService
    namespace: str
    model: ModelConfig
    engine: EngineConfig = EngineConfig()
    listen: ListenConfig = ListenConfig()
    predictor: PredictorConfig = PredictorConfig()
    predictor_enabled: bool = True  # mode Disabled loads no model at all
    tracing: TracingConfig = TracingConfig()
    drain_timeout_s: PositiveSeconds = 300.0
    tenant_header: str = "x-gateway-inference-fairness-id"  # ignored where keys are asked for
    security: SecurityConfig = SecurityConfig()


class PriorityLevelConfig(_Strict, frozen=True):
    """A class of requests: larger values are served first. `max_concurrency`: slots it may hold."""

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    value: int
    max_concurrency: PositiveInt | None = None


class LiveConfig(_Strict, frozen=True):
    """`live.json`: what a running sidecar re-reads. `generation` is the spec's own."""

    generation: NonNegativeInt = 0
    policy: str = "SSJF"
    policy_parameters: dict[str, str] = {}  # camelCase keys, numbers as text
    predictor_mode: PredictorMode = PredictorMode.ENFORCE
    tail_weight: Annotated[float, Meta(ge=0)] = 1.0  # theta: tailWeightPercent / 100
    max_concurrency: PositiveInt | None = None  # None: the engine's slots
    target_tpot_s: PositiveSeconds | None = None  # seconds per output token; None: no such bound
    max_queued_requests: NonNegativeInt = 1024
    max_queued_tokens: PositiveInt | None = None  # predicted output tokens in the queue
    queue_timeout_s: PositiveSeconds = 600.0
    promote_after_s: PositiveSeconds | None = None  # then served first, on at most 25 % of slots
    priority_levels: Annotated[tuple[PriorityLevelConfig, ...], Meta(max_length=16)] = ()
    sampler_arg: str | None = None  # overrides the static sampling ratio

    def __post_init__(self) -> None:
        for field in ("name", "value"):
            given = [getattr(level, field) for level in self.priority_levels]
            twice = next((value for value in given if given.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"priority_levels: {field} {twice!r} is there twice, must be once")


_T = TypeVar("_T", StaticConfig, LiveConfig)


def load_config(path: Path, kind: type[_T]) -> _T:
    """Read and check one configuration file.

    Raises ConfigError naming the file, the JSON path of the bad field and what was allowed.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; the operator mounts this file") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def encode_config(config: StaticConfig | LiveConfig) -> str:
    """The file's text: indented, keys in declaration order, so equal configs give equal text.

    What has its default is left out: the sidecar that reads it may be of an older version.
    """
    return msgspec.json.format(msgspec.json.encode(stated(config)), indent=2).decode() + "\n"


def static_config_hash(config: StaticConfig) -> str:
    """Changes exactly when `static.json` does: on the pod template, and in a sidecar's report."""
    return hashlib.sha256(encode_config(config).encode()).hexdigest()[:16]
