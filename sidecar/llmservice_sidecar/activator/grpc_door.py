"""The gRPC door: a server for each service; calls are held until a replica is ready.

Health and reflection are answered here, so that clients connect to a service that sleeps.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final, cast

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import (  # pyright: ignore[reportMissingTypeStubs] - is `health.aio`
    HealthServicer,
)
from grpc_health.v1.health_pb2_grpc import (
    add_HealthServicer_to_server,  # pyright: ignore[reportUnknownVariableType] - generated
)
from grpc_reflection.v1alpha import reflection
from llmservice_api.activation import Replica
from llmservice_api.names import GRPC_SERVICE

from llmservice_sidecar.activator.desk import Desk
from llmservice_sidecar.activator.grpc_forward import (
    GrpcReplicas,
    abort_as,
    again_after_s,
    pass_on,
    passed_on,
)
from llmservice_sidecar.activator.hold import ReplicaFailed, Target, Ticket
from llmservice_sidecar.adapters.grpc_door import SERVER_OPTIONS, SERVICES
from llmservice_sidecar.adapters.grpc_errors import Call, abort
from llmservice_sidecar.core.errors import LLMServiceError, Reason, RequestRejected

_log = logging.getLogger(__name__)

GENERATE: Final = f"/{GRPC_SERVICE}/Generate"
_DAY_S: Final = 24 * 3600.0
_OPTIONS: Final = tuple(
    {
        **dict(SERVER_OPTIONS),
        # A client's next call is to find the replica itself; what runs here goes on.
        "grpc.max_connection_age_ms": 30_000,
        "grpc.max_connection_age_grace_ms": int(_DAY_S * 1000),
    }.items()
)


class GrpcDoor:
    """Serves every open port. `open` and `close_port` come and go with the services."""

    def __init__(self, desk: Desk, *, host: str) -> None:
        self._desk = desk
        self._host = host
        self._replicas = GrpcReplicas()
        self._servers: dict[int, grpc.aio.Server] = {}
        self._parted: set[grpc.aio.Server] = set()
        self._ending: set[asyncio.Task[None]] = set()

    async def open(self, port: int, target: Target) -> int:
        """Listen for that service; returns the port (another than 0). Raises OSError."""
        server = grpc.aio.server(options=_OPTIONS)
        health = HealthServicer()
        for name in ("", GRPC_SERVICE):
            await health.set(name, health_pb2.HealthCheckResponse.SERVING)
        add_HealthServicer_to_server(health, server)
        reflection.enable_server_reflection(SERVICES, server)
        server.add_generic_rpc_handlers((_Everything(self._desk, self._replicas, target),))
        try:
            bound = server.add_insecure_port(f"{self._host}:{port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen for gRPC on {self._host}:{port}: {error}") from error
        await server.start()
        self._servers[bound] = server
        return bound

    def close_port(self, port: int) -> None:
        """Listen no more. What is in hand goes on; nobody waits for it here."""
        if (server := self._servers.pop(port, None)) is not None:
            task = asyncio.create_task(self._part(server), name="grpc-part")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def keep(self, addresses: set[str]) -> None:
        """Forget all replicas but these."""
        await self._replicas.keep(addresses)

    async def close(self, grace_s: float) -> None:
        """End everything; what still runs gets `grace_s`."""
        servers = {*self._servers.values(), *self._parted}
        await asyncio.gather(*(server.stop(grace_s) for server in servers))
        await self._replicas.close()

    async def _part(self, server: grpc.aio.Server) -> None:
        self._parted.add(server)
        await server.stop(_DAY_S)  # `close` makes it shorter
        self._parted.discard(server)


class _Everything(grpc.GenericRpcHandler):
    """Takes any method. Every one of the service's has a single request message."""

    def __init__(self, desk: Desk, replicas: GrpcReplicas, target: Target) -> None:
        self._desk = desk
        self._replicas = replicas
        self._target = target

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of one call."""
        answer = functools.partial(self._answer, handler_call_details.method)
        untyped: Any = grpc
        return untyped.unary_stream_rpc_method_handler(answer)  # no serializers: bytes

    async def _answer(self, method: str, request: bytes, context: Call) -> None:
        try:
            with self._desk.attending(self._target) as attendance:
                if method != GENERATE and not self._target.awake:
                    raise self._asleep(method)
                self._target.check_room()
                with self._desk.memory.place(self._target.retry_after_s) as place:
                    place.grow(len(request))
                    ticket = self._target.ticket(context.time_remaining())

                    def taken() -> None:
                        attendance.handed_over(ticket)
                        place.free()

                    await self._hold(method, request, context, ticket=ticket, taken=taken)
        except LLMServiceError as error:
            await abort(context, error)

    async def _hold(
        self,
        method: str,
        request: bytes,
        context: Call,
        *,
        ticket: Ticket,
        taken: Callable[[], None],
    ) -> None:
        metadata = passed_on(cast("Any", context.invocation_metadata()) or ())
        while True:
            async with self._target.turn(ticket) as turn:
                try:
                    async with self._replicas.ask(
                        turn.replica.grpc,
                        method,
                        request,
                        metadata=metadata,
                        timeout_s=context.time_remaining(),
                    ) as call:
                        turn.written()  # one connection keeps the order of its calls
                        return await pass_on(call, context, taken=taken)
                except ReplicaFailed as error:
                    self._again(turn.replica, str(error))
                except grpc.aio.AioRpcError as error:
                    pause_s = again_after_s(error, held=ticket.held)
                    if pause_s is None:
                        taken()
                        await abort_as(error, context)
                    self._again(turn.replica, error.details(), pause_s)

    def _again(self, replica: Replica, why: str | None, pause_s: float | None = None) -> None:
        _log.info("%s: asking another time: %s", self._target.key, why)
        self._target.rest(replica, pause_s)

    def _asleep(self, method: str) -> RequestRejected:
        return RequestRejected(
            Reason.ENGINE_DOWN,
            f"the service sleeps at zero replicas, and {method} does not wake it: {GENERATE} does",
            retry_after_s=self._target.retry_after_s(),
        )
