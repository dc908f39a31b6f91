"""A real vLLM with a latency model, a trace collector, and the sidecar as a process in front."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from fakes.certificates import server_pairs
from fakes.mounted import MountedFiles
from fakes.otlp_receiver import OtlpReceiver
from integration.sidecar.running import SidecarProcess
from integration.sidecar.secured import KEYS, Secured
from llmservice_api.sidecar_config import (
    EngineConfig,
    ListenConfig,
    LiveConfig,
    ModelConfig,
    SecurityConfig,
    StaticConfig,
    TracingConfig,
)
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess

SLOTS = 4


@pytest.fixture(scope="session")
def otlp() -> Iterator[OtlpReceiver]:
    """The collector of sidecar and engine."""
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def engine_latency(otlp: OtlpReceiver) -> Iterator[EngineProcess]:
    """vLLM's server and scheduler, 4 slots, 5 ms a token; `vllm_xargs.out_len` is the length."""
    options = EngineOptions(
        kind=EngineKind.LATENCY,
        max_num_seqs=SLOTS,
        latency=LatencyModel(step_s=5e-3),
        arguments=(f"--otlp-traces-endpoint={otlp.endpoint}",),
        environment={
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true",
            "OTEL_SERVICE_NAME": "chat-engine",  # as the operator sets it
        },
    )
    with EngineProcess(options) as engine:
        yield engine


def static_config(
    engine: EngineProcess, otlp: OtlpReceiver, *, slots: int = SLOTS, engine_url: str | None = None
) -> StaticConfig:
    """A sidecar on free ports in front of `engine` (or another), every request traced."""
    return StaticConfig(
        service="chat",
        namespace="team",
        model=ModelConfig(name=engine.model),
        engine=EngineConfig(
            url=engine_url or engine.url,
            slots=slots,
            max_model_len=2048,
            allowed_extra_args=("out_len",),
        ),
        listen=ListenConfig(host="127.0.0.1", http_port=0, grpc_port=0, ops_port=0, admin_port=0),
        tracing=TracingConfig(exporter_endpoint=otlp.endpoint),
        drain_timeout_s=20.0,
    )


@pytest.fixture
def fresh_sidecar(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path: Path
) -> Iterator[SidecarProcess]:
    """A sidecar that knows no service times yet: to it every deadline can be met."""
    with SidecarProcess(static_config(engine_latency, otlp), tmp_path / "fresh") as process:
        yield process


@pytest.fixture(scope="module")
def sidecar(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SidecarProcess]:
    """The sidecar with as many slots as the engine and room for eight requests in its queue."""
    config = static_config(engine_latency, otlp)
    directory: Path = tmp_path_factory.mktemp("sidecar")
    with SidecarProcess(config, directory, LiveConfig(max_queued_requests=8)) as process:
        yield process


@contextmanager
def _secured(engine: EngineProcess, otlp: OtlpReceiver, directory: Path) -> Generator[Secured]:
    pairs = server_pairs(5)
    keys = MountedFiles(directory / "keys", KEYS)
    tls = MountedFiles(directory / "tls", pairs[0].files)
    security = SecurityConfig(api_keys_dir=str(keys.directory), tls_dir=str(tls.directory))
    config = msgspec.structs.replace(static_config(engine, otlp), security=security)
    with SidecarProcess(config, directory / "sidecar", LiveConfig()) as process:
        yield Secured(process, keys, tls, pairs)


@pytest.fixture(scope="module")
def secured(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    """A sidecar that asks for keys and speaks TLS."""
    with _secured(engine_latency, otlp, tmp_path_factory.mktemp("secured")) as running:
        yield running


@pytest.fixture
def rotating(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path: Path
) -> Iterator[Secured]:
    """One whose Secrets the test changes."""
    with _secured(engine_latency, otlp, tmp_path) as running:
        yield running
