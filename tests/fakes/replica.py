"""The doors of a replica, made up: they count, remember the order, refuse or break at will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from llmservice_api.activation import Replica

EVENTS = tuple(f"data: {number}\n\n".encode() for number in range(3))


@dataclass
class FakeReplica:
    """Answers every path with three events. `refusals`: statuses to answer with first, in order."""

    refusals: list[tuple[int, dict[str, str]]] = field(
        default_factory=list[tuple[int, dict[str, str]]]
    )
    break_after: int | None = None  # events until the connection breaks
    seen: list[web.Request] = field(default_factory=list[web.Request])
    bodies: list[bytes] = field(default_factory=list[bytes])
    calls: list[tuple[str, bytes, dict[str, Any]]] = field(
        default_factory=list[tuple[str, bytes, dict[str, Any]]]
    )
    aborted: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    slow: bool = False  # after its first event an answer waits for `release`
    on_call: Callable[[], tuple[grpc.StatusCode, str] | None] = lambda: None

    @asynccontextmanager
    async def running(
        self, host: str = "127.0.0.1", *, http_port: int = 0, grpc_port: int = 0
    ) -> AsyncGenerator[Replica]:
        """Listen for the length of the block; port 0 lets the system choose."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._http)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, auto_decompress=False,
            shutdown_timeout=0.1,
        )  # fmt: skip
        await runner.setup()
        await web.TCPSite(runner, host, http_port, backlog=4096).start()
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers((_Everything(self),))
        bound = server.add_insecure_port(f"{host}:{grpc_port}")
        await server.start()
        try:
            yield Replica(f"{host}:{runner.addresses[0][1]}", f"{host}:{bound}")
        finally:
            await server.stop(0)
            await runner.cleanup()

    async def _http(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self.refusals:
            status, headers = self.refusals.pop(0)
            return web.Response(status=status, text="refused", headers=headers)
        self.seen.append(request)
        self.bodies.append(body)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Own": "yes", "Keep-Alive": "timeout=9"}
        )
        await response.prepare(request)
        try:
            for number, event in enumerate(EVENTS):
                if number == self.break_after and request.transport is not None:
                    request.transport.abort()
                    return response
                await response.write(event)
                if self.slow:
                    await self.release.wait()
        except (asyncio.CancelledError, ConnectionError):
            self.aborted += 1
            raise
        await response.write_eof()
        return response

    async def grpc_answer(self, method: str, request: bytes, context: Any) -> None:
        """Any call: initial metadata, three messages, a trailer."""
        if refusal := self.on_call():
            code, details = refusal
            await context.abort(code, details, (("x-why", "told"),))
        metadata = dict(context.invocation_metadata())
        metadata["remaining_s"] = context.time_remaining()
        self.calls.append((method, request, metadata))
        await context.send_initial_metadata((("x-first", "1"), ("x-bytes-bin", b"\x00\x01")))
        try:
            for event in EVENTS:
                await context.write(event)
                if self.slow:
                    await self.release.wait()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        context.set_trailing_metadata((("x-last", "9"),))


class _Everything(grpc.GenericRpcHandler):
    def __init__(self, replica: FakeReplica) -> None:
        self._replica = replica

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method

        async def answer(request: bytes, context: Any) -> None:
            await self._replica.grpc_answer(method, request, context)

        untyped: Any = grpc
        return untyped.unary_stream_rpc_method_handler(answer)
