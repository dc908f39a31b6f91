"""The composition root: every object of the sidecar is made here, and ended here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from llmservice_api.names import LIVE_CONFIG_FILE, STATIC_CONFIG_FILE
from llmservice_api.sidecar_config import (
    LiveConfig,
    StaticConfig,
    load_config,
    static_config_hash,
)
from llmservice_api.status_report import EngineReport, PredictorReport, StatusReport

from llmservice_sidecar.adapters.door_security import DoorSecurity
from llmservice_sidecar.adapters.engine_vllm import VllmEngine
from llmservice_sidecar.adapters.garbage_collection import spare_collections
from llmservice_sidecar.adapters.grpc_door import GrpcDoor
from llmservice_sidecar.adapters.grpc_service import InferenceService
from llmservice_sidecar.adapters.http_door import HttpDoor, HttpSettings
from llmservice_sidecar.adapters.http_passthrough import PassThrough
from llmservice_sidecar.adapters.live_config import LiveConfigFile
from llmservice_sidecar.adapters.model_progress import read_progress
from llmservice_sidecar.adapters.openai_request import OpenAIRequests
from llmservice_sidecar.adapters.ops_server import OpsServer, OpsSources
from llmservice_sidecar.adapters.predictor_exchange import PredictorExchange
from llmservice_sidecar.adapters.predictors import make_predictor
from llmservice_sidecar.adapters.telemetry_gauges import Gauges
from llmservice_sidecar.adapters.telemetry_metrics import PrometheusMetrics
from llmservice_sidecar.adapters.telemetry_tracing import Tracing, make_tracing
from llmservice_sidecar.core.admission.kv_forecast import KvForecast
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import make_deployed_policy, make_policy
from llmservice_sidecar.core.trust import Trust
from llmservice_sidecar.runtime.account import Telemetry
from llmservice_sidecar.runtime.async_gate import AsyncGate
from llmservice_sidecar.runtime.drain import ANNOUNCE_S
from llmservice_sidecar.runtime.ending import EndSignals
from llmservice_sidecar.runtime.limits import Limits
from llmservice_sidecar.runtime.ordering import ARRIVAL_ORDER, Ordering
from llmservice_sidecar.runtime.pipeline import Pipeline
from llmservice_sidecar.runtime.predicting import Predicting
from llmservice_sidecar.runtime.readiness import Readiness

_log = logging.getLogger(__name__)

_GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a started sidecar listens; printed as one JSON line on standard output."""

    http_port: int
    grpc_port: int
    ops_port: int
    admin_port: int


class App:
    """A whole sidecar. `running` is the time between listening and closed."""

    def __init__(
        self, static: StaticConfig, live_path: Path, *, announce_s: float = ANNOUNCE_S
    ) -> None:
        started_at = time.monotonic()
        self._clock: Callable[[], float] = lambda: time.monotonic() - started_at
        self._static = static
        self._security = DoorSecurity(static.security, tenant_header=static.tenant_header)
        self._live_file = LiveConfigFile(live_path, apply=self._apply)
        live = self._live_file.load_first()
        self._engine = VllmEngine(static.engine.url)
        self._predictor = make_predictor(static.predictor, enabled=static.predictor_enabled)
        self._exchange = PredictorExchange(
            self._predictor, static.predictor.keep, own_address=os.environ.get("POD_IP")
        )
        self._metrics = PrometheusMetrics(models=(static.model.name, *static.model.adapters))
        self._tracing = _tracing(static, live)
        self.pipeline: Final = self._pipeline(live, announce_s=announce_s)
        self.readiness: Final = Readiness(self.pipeline.drain)
        self._metrics.watch(
            Gauges(
                queue=self.pipeline.snapshot,
                predictor=self._predictor_report,
                engine_up=lambda: self.readiness.engine_healthy,
                draining=lambda: self.readiness.draining,
                dropped_spans=lambda: self._tracing.dropped_spans,
                security=self._security.report,
            )
        )
        self._requests = OpenAIRequests(
            model=static.model,
            allowed_extra_args=static.engine.allowed_extra_args,
            max_model_len=static.engine.max_model_len,
        )
        self._http = self._http_door()
        self._grpc = self._grpc_door()
        self._ops = self._ops_server()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Ports]:
        """Listen on all ports for the length of the block. Raises OSError naming a taken one."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._tracing.close)
            stack.push_async_callback(self._predictor.aclose)
            stack.push_async_callback(self._exchange.keep)
            await stack.enter_async_context(self._engine)
            await stack.enter_async_context(
                _background(self.readiness.poll(self._engine, on_up=self._learn_engine))
            )
            await stack.enter_async_context(_background(self._live_file.follow()))
            await stack.enter_async_context(_background(self._security.follow()))
            await stack.enter_async_context(_background(self.pipeline.gain.follow()))
            await stack.enter_async_context(_background(self._exchange.follow()))
            await self._ops.start()
            stack.push_async_callback(self._ops.close)
            await self._http.start()
            stack.push_async_callback(self._http.close)
            await self._grpc.start()
            stack.push_async_callback(self._grpc.close, _GRACE_S)
            drain = self.pipeline.drain
            drain.wait_for(self._grpc.lingering_s)
            drain.watch(lambda: self._grpc.part(leaving=drain.parting))
            yield Ports(
                http_port=self._http.port,
                grpc_port=self._grpc.port,
                ops_port=self._ops.ops_port,
                admin_port=self._ops.admin_port,
            )

    async def leave(self) -> None:
        """End as Kubernetes wants it: announce, finish what is here, within the drain timeout."""
        self.pipeline.drain.make_final()
        # After its preStop the engine ended before us: then there is nobody to wait for.
        if await self._engine.healthy():
            await self.pipeline.drain.run(self._static.drain_timeout_s)

    def report(self) -> StatusReport:
        """The sidecar's state for the operator and for people."""
        readiness = self.readiness
        return StatusReport(
            generation_applied=self._live_file.generation,
            static_hash=static_config_hash(self._static),
            config_error=self._live_file.error,
            ready=readiness.ready,
            draining=readiness.draining,
            engine=EngineReport(healthy=readiness.engine_healthy, message=readiness.engine_message),
            queue=self.pipeline.snapshot(),
            predictor=self._predictor_report(),
            security=self._security.report(),
            model=read_progress(self._static.model.progress_path),
        )

    def _pipeline(self, live: LiveConfig, *, announce_s: float) -> Pipeline:
        static = self._static
        calibration = static.predictor.calibration
        kv_forecast = KvForecast()  # until the engine tells what it has, everything fits
        gate = AsyncGate(
            Gate(
                policy=make_policy(ARRIVAL_ORDER),
                rules=(kv_forecast,),
                limit_slots=static.engine.slots,
                max_queued=live.max_queued_requests,
                estimator=WorkEstimator(),
            ),
            clock=self._clock,
        )
        trust = Trust(
            min_samples=calibration.min_samples,
            window=calibration.window_samples,
            starts_trusted=self._predictor.starts_trusted,
        )
        limits = Limits(
            gate,
            slots=static.engine.slots,
            kv_forecast=kv_forecast,
            clock=self._clock,
            notice_delay_s=self._notice_delay_s,
        )
        ordering = Ordering(gate, trust=trust, limits=limits, live=live, clock=self._clock)
        predictor = self._predictor if static.predictor_enabled else None
        return Pipeline(
            gate=gate,
            engine=self._engine,
            ordering=ordering,
            predicting=Predicting(predictor, kind=static.predictor.kind),
            telemetry=Telemetry(self._tracing.tracer, self._metrics, self._clock),
            announce_s=announce_s,
        )

    def _notice_delay_s(self) -> float:
        # On loopback it is below a step of the engine: looking ahead would only give away order.
        return 0.0 if self._engine.is_local else self.readiness.engine_round_trip_s

    async def _learn_engine(self) -> None:
        tokens = await self._engine.kv_cache_tokens()
        _log.info("KV cache of the engine: %s", "unknown" if tokens is None else f"{tokens} tokens")
        self.pipeline.limits.kv_capacity(tokens)

    def _http_door(self) -> HttpDoor:
        listen = self._static.listen
        passthrough = PassThrough(
            self._engine,
            metrics=self._metrics.render,
            queued=lambda: self.pipeline.snapshot().queued_requests,
        )
        settings = HttpSettings(host=listen.host, port=listen.http_port, security=self._security)
        return HttpDoor(self.pipeline, self._requests, passthrough=passthrough, settings=settings)

    def _grpc_door(self) -> GrpcDoor:
        static = self._static
        service = InferenceService(
            self.pipeline,
            self._requests,
            model=static.model.name,
        )
        return GrpcDoor(service, self.readiness, listen=static.listen, security=self._security)

    def _ops_server(self) -> OpsServer:
        sources = OpsSources(
            report=self.report,
            metrics=self._metrics.render,
            drain=self.pipeline.drain.run,
            drain_timeout_s=self._static.drain_timeout_s,
            statistics=self._exchange.statistics,
            snapshot=self._exchange.snapshot,
            queue_view=self.pipeline.queue_view,
        )
        return OpsServer(sources, listen=self._static.listen)

    def _predictor_report(self) -> PredictorReport:
        return msgspec.structs.replace(
            self.pipeline.predictor_report(),
            state=self._predictor.state,
            message=self._predictor.message,
            learned=self._predictor.samples,
            timeouts=self._predictor.timeouts,
            failures=self._predictor.failures,
            fallbacks=dict(self._predictor.fallbacks),
        )

    def _apply(self, live: LiveConfig) -> None:
        # All that can be refused is checked first: a bad file must not be half in use.
        make_deployed_policy(
            live.policy, tail_weight=live.tail_weight, parameters=live.policy_parameters
        )
        self._tracing.sampler.set_arg(live.sampler_arg)
        self.pipeline.apply_live(live)


async def run(config_dir: Path) -> None:
    """Serve until SIGTERM (drains) or SIGINT (at once). Raises ConfigError, OSError."""
    static = load_config(config_dir / STATIC_CONFIG_FILE, StaticConfig)
    app = App(static, config_dir / LIVE_CONFIG_FILE)
    signals = EndSignals()
    async with app.running() as ports:
        spare_collections()
        sys.stdout.write(msgspec.json.encode(ports).decode() + "\n")
        sys.stdout.flush()
        _log.info("serving %s in front of %s", static.model.name, static.engine.url)
        await signals.until_left(app.leave)
        _log.info("closing")


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _tracing(static: StaticConfig, live: LiveConfig) -> Tracing:
    tracing = make_tracing(
        static.tracing, service=static.service, namespace=static.namespace, environ=os.environ
    )
    tracing.sampler.set_arg(live.sampler_arg)
    return tracing
