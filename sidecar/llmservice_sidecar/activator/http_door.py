"""The HTTP door: a port for each service; requests are held until a replica is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from aiohttp import ClientResponse, web

from llmservice_sidecar.activator.desk import ANSWERED, Attendance, Desk
from llmservice_sidecar.activator.hold import Memory, Place, ReplicaFailed, Target, Ticket
from llmservice_sidecar.activator.http_asleep import asleep_answer, wakes
from llmservice_sidecar.activator.http_forward import (
    HttpMessage,
    HttpReplicas,
    end_to_end,
    pass_on,
)
from llmservice_sidecar.adapters import http_headers
from llmservice_sidecar.adapters.http_door import MAX_BODY_BYTES
from llmservice_sidecar.adapters.http_errors import in_openai_shape
from llmservice_sidecar.core.errors import Reason, RequestEvicted, RequestRejected

_log = logging.getLogger(__name__)

HELD_MS: Final = "x-llmservice-held-ms"
_SHUTDOWN_S: Final = 1.0
# Shorter than the operator keeps the port of a service that is gone from being given to another.
_KEEPALIVE_S: Final = 75.0
_LONGEST_PAUSE_S: Final = 5.0


class HttpDoor:
    """Serves every open port. `open` and `close_port` come and go with the services."""

    def __init__(self, desk: Desk, *, host: str) -> None:
        self._desk = desk
        self._host = host
        self._replicas = HttpReplicas()
        self._targets: dict[int, Target] = {}
        self._sites: dict[int, web.TCPSite] = {}
        app = web.Application(middlewares=[in_openai_shape])
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.on_response_prepare.append(self._part)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,  # a client that leaves gives up its place at once
            shutdown_timeout=_SHUTDOWN_S,
            keepalive_timeout=_KEEPALIVE_S,
            auto_decompress=False,  # bodies are passed on as they came
        )

    async def start(self) -> None:
        """Make ready to open ports."""
        await self._runner.setup()
        await self._replicas.start()

    async def open(self, port: int, target: Target) -> int:
        """Listen for that service; returns the port (another than 0). Raises OSError."""
        site = web.TCPSite(self._runner, self._host, port, backlog=4096)
        await site.start()
        # The last one made: aiohttp names addresses in the order of its sites.
        bound: int = self._runner.addresses[-1][1] if port == 0 else port
        self._sites[bound] = site
        self._targets[bound] = target
        return bound

    async def close_port(self, port: int) -> None:
        """Listen no more; what is in hand goes on."""
        self._targets.pop(port, None)
        if (site := self._sites.pop(port, None)) is not None:
            await site.stop()

    async def close(self) -> None:
        """End everything; what still runs is cancelled after a second."""
        await self._runner.cleanup()
        await self._replicas.close()

    async def _part(self, request: web.Request, response: web.StreamResponse) -> None:
        """Nobody keeps a connection to an activator that leaves, or to a port that is closed."""
        if self._desk.draining or _port_of(request) not in self._targets:
            response.force_close()
            response.headers["Connection"] = "close"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        target = self._targets.get(_port_of(request))
        if target is None:
            raise RequestRejected(
                Reason.DRAINING, "this service has left the activator", retry_after_s=1.0
            )
        with self._desk.attending(target) as attendance:
            stay = _Stay(self._replicas, target, request, attendance)
            return await stay.answer(self._desk.memory)


class _Stay:
    """One request from its arrival to the end of its answer."""

    def __init__(
        self,
        replicas: HttpReplicas,
        target: Target,
        request: web.Request,
        attendance: Attendance,
    ) -> None:
        self._timeout_s = http_headers.timeout_s(request.headers)
        self._replicas = replicas
        self._target = target
        self._request = request
        self._attendance = attendance
        self._ticket = target.ticket(self._timeout_s)

    async def answer(self, memory: Memory) -> web.StreamResponse:
        """Hold it if it must wait, pass it on, stream the answer. Raises our errors."""
        scheduled = wakes(self._request)
        if not scheduled and not self._target.awake:
            return self._asleep()
        self._target.check_room()  # before a body is taken in
        with memory.place(self._target.retry_after_s) as place:
            body = await self._body(place)
            return await (self._hold if scheduled else self._ask_once)(body, place)

    async def _hold(self, body: bytes, place: Place) -> web.StreamResponse:
        while True:
            async with self._target.turn(self._ticket) as turn:
                try:
                    message = self._message(body)
                    address = turn.replica.http
                    async with self._replicas.ask(address, message, written=turn.written) as answer:
                        pause_s = _again_after_s(answer.status, answer.headers, self._ticket)
                        if pause_s is None:
                            return await self._hand_over(answer, place)
                        self._target.rest(turn.replica, pause_s)
                except ReplicaFailed as error:
                    _log.info("%s: asking another time: %s", self._target.key, error)
                    self._target.rest(turn.replica)

    async def _ask_once(self, body: bytes, place: Place) -> web.StreamResponse:
        """For what wakes nobody: a replica that fails is as good as none."""
        try:
            async with self._target.turn(self._ticket) as turn:
                message, address = self._message(body), turn.replica.http
                async with self._replicas.ask(address, message, written=turn.written) as answer:
                    return await self._hand_over(answer, place)
        except ReplicaFailed as error:
            _log.info("%s: answered as if asleep: %s", self._target.key, error)
            return self._asleep()

    async def _hand_over(self, answer: ClientResponse, place: Place) -> web.StreamResponse:
        spent_s = self._attendance.handed_over(self._ticket)
        place.free()
        held = {HELD_MS: f"{spent_s * 1000:.0f}"} if self._ticket.held else {}
        return await pass_on(answer, self._request, extra=held)

    def _asleep(self) -> web.Response:
        answer = asleep_answer(self._request, self._target)
        self._attendance.end_as(ANSWERED)
        return answer

    async def _body(self, place: Place) -> bytes:
        length = self._request.content_length
        if length is not None and length > MAX_BODY_BYTES:
            raise _too_large(length)
        body = bytearray()
        try:
            async with asyncio.timeout_at(self._ticket.deadline):
                async for chunk in self._request.content.iter_any():
                    if len(body) + len(chunk) > MAX_BODY_BYTES:
                        raise _too_large(len(body) + len(chunk))
                    place.grow(len(chunk))
                    body += chunk
        except TimeoutError:
            text = "the deadline passed before the request was here"
            raise RequestEvicted(Reason.DEADLINE, text) from None
        return bytes(body)

    def _message(self, body: bytes) -> HttpMessage:
        headers = end_to_end(self._request.headers)
        if self._timeout_s is not None:
            # The replica counts from when the request comes to it.
            spent_s = asyncio.get_running_loop().time() - self._ticket.arrived_at
            left_ms = max(1, int((self._timeout_s - spent_s) * 1000))
            headers[http_headers.TIMEOUT_MS] = str(left_ms)
        return HttpMessage(
            method=self._request.method,
            path=self._request.rel_url.raw_path_qs,
            headers=headers,
            body=body,
        )


def _again_after_s(status: int, headers: Mapping[str, str], ticket: Ticket) -> float | None:
    """Seconds after which to ask again instead of passing a refusal on; None: pass it on.

    503 says that nobody has worked on the request. 429 is the client's to hear, unless the
    activator has made the crowd by letting all that was held go at once.
    """
    if status == 503 or (status == 429 and ticket.held):
        given = headers.get("retry-after-ms", "")
        pause_s = int(given) / 1000 if given.isascii() and given.isdigit() else 0.5
        return min(_LONGEST_PAUSE_S, max(0.05, pause_s))
    return None


def _port_of(request: web.Request) -> int:
    if request.transport is None:
        raise ConnectionResetError("the client has left")
    return int(request.transport.get_extra_info("sockname")[1])


def _too_large(size: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(max_size=MAX_BODY_BYTES, actual_size=size)
