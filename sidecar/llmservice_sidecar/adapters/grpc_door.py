"""The gRPC server: settings of the connection, health, reflection, start and end.

What a call does is in grpc_service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import grpc.aio
from grpc_health.v1 import health, health_pb2
from grpc_health.v1._async import (  # pyright: ignore[reportMissingTypeStubs] - is `health.aio`
    HealthServicer,
)
from grpc_health.v1.health_pb2_grpc import (
    add_HealthServicer_to_server,  # pyright: ignore[reportUnknownVariableType] - generated
)
from grpc_reflection.v1alpha import reflection
from llmservice_api.names import GRPC_SERVICE

from llmservice_sidecar.adapters.grpc_service import InferenceService
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    add_InferenceServiceServicer_to_server,  # pyright: ignore[reportUnknownVariableType] - generated
)

_MINUTE_MS: Final = 60_000

SERVER_OPTIONS: Final = (
    # Two sidecars on one port would share calls at random instead of failing at start.
    ("grpc.so_reuseport", 0),
    # Clients reconnect, and so find new pods; what runs on the old connection may end there.
    ("grpc.max_connection_age_ms", 5 * _MINUTE_MS),
    ("grpc.max_connection_age_grace_ms", 60 * _MINUTE_MS),
    # A queued call is quiet for long, and its client may ping: gRPC's default ends such a
    # connection after two pings in five minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A client that is gone without a word frees its place within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # No queue, calls beyond it fail: more than the gate's queue holds, so that the gate answers.
    ("grpc.max_concurrent_streams", 4096),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
SERVICES: Final = (GRPC_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)


class Watchable(Protocol):
    """What the door asks of readiness; see there."""

    def watch(self, callback: Callable[[bool], None]) -> None: ...


class GrpcDoor:
    """Serves InferenceService, health and reflection on one port."""

    def __init__(
        self, service: InferenceService, readiness: Watchable, *, host: str, port: int
    ) -> None:
        self._service = service
        self._readiness = readiness
        self._address = f"{host}:{port}"
        self._health = _HealthReporter()
        self.port = port  # after `start` the real one

    async def start(self) -> None:
        """Listen. Raises OSError naming the address when it is taken."""
        # Made here and not before: an aio server belongs to the loop that runs.
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        add_InferenceServiceServicer_to_server(self._service, self._server)
        add_HealthServicer_to_server(self._health.servicer, self._server)
        reflection.enable_server_reflection(SERVICES, self._server)
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"cannot listen for gRPC on {self._address}: {error}") from error
        self._health.start()
        self._readiness.watch(self._health.set)
        await self._server.start()

    async def close(self, grace_s: float = 0.0) -> None:
        """Refuse new calls; running ones get `grace_s`, then they are cancelled."""
        await self._server.stop(grace_s)
        await self._health.close()


class _HealthReporter:
    """Tells grpc.health.v1 what readiness says, from a callback that cannot wait."""

    def __init__(self) -> None:
        self.servicer = HealthServicer()
        self._ready = False
        self._changed = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._report(), name="grpc-health")

    def set(self, ready: bool) -> None:  # noqa: FBT001 - as Watchable calls it
        self._ready = ready
        self._changed.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _report(self) -> None:
        states = health_pb2.HealthCheckResponse
        while True:
            status = states.SERVING if self._ready else states.NOT_SERVING
            for name in ("", GRPC_SERVICE):
                await self.servicer.set(name, status)
            await self._changed.wait()
            self._changed.clear()
