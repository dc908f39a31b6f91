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
from llmservice_api.sidecar_config import ListenConfig

from llmservice_sidecar.adapters.door_security import DoorSecurity
from llmservice_sidecar.adapters.grpc_auth import KnownCallers
from llmservice_sidecar.adapters.grpc_service import InferenceService
from llmservice_sidecar.adapters.grpc_tls import server_credentials
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    add_InferenceServiceServicer_to_server,  # pyright: ignore[reportUnknownVariableType] - generated
)

_MINUTE_MS: Final = 60_000
# gRPC sends clients elsewhere without losing a call only by a connection's age: a server that is
# stopped kills the calls that arrive in that moment. So a drain has to wait for it.
_CONNECTION_AGE_S: Final = 15.0
_AGE_JITTER: Final = 1.1  # gRPC's own, upwards
# The calls of clients that were sent elsewhere: the drain's timeout ends them, not this.
_PARTING_S: Final = 7 * 24 * 3600.0

SERVER_OPTIONS: Final = (
    # Two sidecars on one port would share calls at random instead of failing at start.
    ("grpc.so_reuseport", 0),
    # Clients reconnect, and so find new pods; what runs on the old connection may end there.
    ("grpc.max_connection_age_ms", int(_CONNECTION_AGE_S * 1000)),
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
        self,
        service: InferenceService,
        readiness: Watchable,
        *,
        listen: ListenConfig,
        security: DoorSecurity,
    ) -> None:
        self._service = service
        self._security = security
        self._readiness = readiness
        self._health = _HealthReporter()
        self._host = listen.host
        self._server: grpc.aio.Server | None = None
        self._parted: list[grpc.aio.Server] = []
        self._turns: set[asyncio.Task[None]] = set()
        self._turning = asyncio.Lock()
        self.port = listen.grpc_port  # after `start` the real one

    async def start(self) -> None:
        """Listen. Raises OSError naming the address when it is taken."""
        self._server = await self._listening()
        self._health.start()
        self._readiness.watch(self._health.set)

    def lingering_s(self) -> float:
        """For how long calls may still come on connections that are open now."""
        quiet_s = self._service.quiet_s
        return 0.0 if quiet_s is None else max(0.0, _CONNECTION_AGE_S * _AGE_JITTER - quiet_s)

    def part(self, *, leaving: bool) -> None:
        """Take no new connection, and send GOAWAY on those there are; calls that run or wait go on.

        A call that arrives in this moment may be cancelled: part after `lingering_s`. Not
        `leaving`: listen again.
        """
        turn = asyncio.create_task(self._turn(leaving=leaving), name="grpc-part")
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)

    async def close(self, grace_s: float = 0.0) -> None:
        """Refuse new calls; running ones get `grace_s`, then they are cancelled."""
        async with self._turning:
            servers = [*self._parted, *([self._server] if self._server else [])]
            await asyncio.gather(*(server.stop(grace_s) for server in servers))
        await self._health.close()

    async def _turn(self, *, leaving: bool) -> None:
        async with self._turning:
            if leaving and self._server is not None:
                self._parted.append(self._server)
                # Returns when the last call has ended: nobody waits for it here.
                ending = asyncio.create_task(self._server.stop(_PARTING_S), name="grpc-ending")
                self._turns.add(ending)
                ending.add_done_callback(self._turns.discard)
                self._server = None
            elif not leaving and self._server is None:
                self._server = await self._listening()

    async def _listening(self) -> grpc.aio.Server:
        # Made here and not before: an aio server belongs to the loop that runs.
        security = self._security
        interceptors = [KnownCallers(security.callers)]
        server = grpc.aio.server(options=SERVER_OPTIONS, interceptors=interceptors)
        add_InferenceServiceServicer_to_server(self._service, server)
        add_HealthServicer_to_server(self._health.servicer, server)
        reflection.enable_server_reflection(SERVICES, server)
        address = f"{self._host}:{self.port}"
        try:
            if security.tls is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, server_credentials(security.tls))
        except RuntimeError as error:
            raise OSError(f"cannot listen for gRPC on {address}: {error}") from error
        await server.start()
        return server


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
