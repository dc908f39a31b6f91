"""From the spec to the sidecar's two files. Pure; the files' types are in `llmservice_api`."""

from __future__ import annotations

from llmservice_api import names
from llmservice_api.sidecar_config import (
    CalibrationConfig,
    EngineConfig,
    KeepConfig,
    LiveConfig,
    ModelConfig,
    PredictorConfig,
    PredictorMode,
    PriorityLevelConfig,
    StaticConfig,
    TracingConfig,
    encode_config,
    static_config_hash,
)
from llmservice_api.spec import Predictor, PriorityLevel, Switch, Tracing

from llmservice_operator.desired.metadata import metadata
from llmservice_operator.desired.model_source import adapters, downloads, predictor_uri
from llmservice_operator.desired.secrets import security_config
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service


def static_config(service: Service) -> StaticConfig:
    """`static.json`: what only a restart can change."""
    spec = service.spec
    return StaticConfig(
        service=service.name,
        namespace=service.namespace,
        model=_model(service),
        engine=EngineConfig(
            slots=spec.engine.max_num_seqs * spec.parallelism.data,
            max_model_len=spec.engine.max_model_len,
            allowed_extra_args=tuple(sorted(spec.engine.allowed_extra_args)),
        ),
        predictor=_predictor(spec.predictor, service),
        predictor_enabled=spec.predictor.mode is not PredictorMode.DISABLED,
        tracing=_tracing(spec.tracing),
        drain_timeout_s=float(spec.drain_timeout_seconds),
        tenant_header=spec.queue.fairness.tenant_header,
        security=security_config(service),
    )


def live_config(service: Service) -> LiveConfig:
    """`live.json`: what a running sidecar re-reads."""
    queue, tracing = service.spec.queue, service.spec.tracing
    return LiveConfig(
        generation=service.generation,
        policy=queue.policy,
        policy_parameters=dict(sorted(queue.policy_parameters.items())),
        predictor_mode=service.spec.predictor.mode,
        tail_weight=queue.tail_weight_percent / 100,
        max_concurrency=queue.max_concurrency,
        target_tpot_s=_from_ms(queue.target_time_per_output_token_milliseconds),
        max_queued_requests=queue.max_queued_requests,
        max_queued_tokens=queue.max_queued_tokens,
        queue_timeout_s=float(queue.queue_timeout_seconds),
        promote_after_s=_seconds(queue.promote_after_seconds),
        priority_levels=_levels(queue.priority_levels),
        sampler_arg=tracing.sampler_arg if tracing else None,
    )


def static_hash(service: Service) -> str:
    """Changes exactly when `static.json` does; on the pod template it makes a rollout."""
    return static_config_hash(static_config(service))


def config_map(service: Service) -> Manifest:
    """The ConfigMap with both files."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(service, service.config_map),
        "data": {
            names.STATIC_CONFIG_FILE: encode_config(static_config(service)),
            names.LIVE_CONFIG_FILE: encode_config(live_config(service)),
        },
    }


def _model(service: Service) -> ModelConfig:
    fetched = bool(downloads(service.spec))
    return ModelConfig(
        name=service.model_name,
        adapters=tuple(adapter.name for adapter in adapters(service.spec)),
        progress_path=f"{names.DELIVERY_DIR}/{names.PROGRESS_FILE}" if fetched else None,
    )


def _levels(levels: tuple[PriorityLevel, ...]) -> tuple[PriorityLevelConfig, ...]:
    """The highest first: their order in the spec means nothing."""
    return tuple(
        PriorityLevelConfig(
            name=level.name, value=level.value, max_concurrency=level.max_concurrency
        )
        for level in sorted(levels, key=lambda level: -level.value)
    )


def _seconds(whole: int | None) -> float | None:
    return None if whole is None else float(whole)


def _from_ms(whole: int | None) -> float | None:
    return None if whole is None else whole / 1000


def _predictor(predictor: Predictor, service: Service) -> PredictorConfig:
    return PredictorConfig(
        kind=predictor.kind,
        uri=predictor_uri(service),
        timeout_s=predictor.timeout_milliseconds / 1000,
        online_learning=predictor.online_learning is Switch.ENABLED,
        calibration=CalibrationConfig(
            min_samples=predictor.calibration.min_samples,
            window_samples=predictor.calibration.window_samples,
        ),
        keep=KeepConfig(
            state_path=f"{names.PREDICTOR_STATE_DIR}/{names.PREDICTOR_SNAPSHOT_FILE}",
            inherited_path=f"{names.PREDICTOR_INHERITED_DIR}/{names.PREDICTOR_SNAPSHOT_FILE}",
            peers_host=f"{service.name}-headless.{service.namespace}.svc",
        ),
    )


def _tracing(tracing: Tracing | None) -> TracingConfig:
    if tracing is None:
        return TracingConfig()
    # The ratio is in live.json: tuning it must not reload a model.
    return TracingConfig(
        exporter_endpoint=tracing.exporter_endpoint,
        exporter=tracing.exporter,
        sampler=tracing.sampler,
    )
