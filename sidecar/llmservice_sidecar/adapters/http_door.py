"""The OpenAI door: HTTP in, server-sent events or JSON out. Order and slots are the pipeline's."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web
from opentelemetry.context import Context

from llmservice_sidecar.adapters import http_headers
from llmservice_sidecar.adapters.door_security import DoorSecurity
from llmservice_sidecar.adapters.error_map import HttpError, http_error
from llmservice_sidecar.adapters.http_auth import TENANT, known_callers
from llmservice_sidecar.adapters.http_errors import in_openai_shape, response_of
from llmservice_sidecar.adapters.http_passthrough import PassThrough
from llmservice_sidecar.adapters.openai_request import ENDPOINTS, CallContext, OpenAIRequests
from llmservice_sidecar.adapters.telemetry_tracing import context_of
from llmservice_sidecar.core.errors import InvalidRequest, LLMServiceError
from llmservice_sidecar.runtime.call import Door, InferenceCall, Served
from llmservice_sidecar.runtime.pipeline import Pipeline
from llmservice_sidecar.runtime.ports import PredictionQuery

_log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
_EVENT_STREAM: Final = "text/event-stream"
_SHUTDOWN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Where the door listens and what guards it."""

    host: str
    port: int
    security: DoorSecurity


class HttpDoor:
    """Serves the OpenAI API on one port. `start` binds it; `port` is then the real one."""

    def __init__(
        self,
        pipeline: Pipeline,
        requests: OpenAIRequests,
        *,
        passthrough: PassThrough,
        settings: HttpSettings,
    ) -> None:
        self._pipeline = pipeline
        self._requests = requests
        self._settings = settings
        app = web.Application(
            client_max_size=MAX_BODY_BYTES,
            middlewares=[in_openai_shape, known_callers(settings.security.callers)],
        )
        for path in ENDPOINTS:
            app.router.add_post(path, self._scheduled(path))
        passthrough.add_to(app)
        app.on_response_prepare.append(self._part_while_draining)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,  # a client that leaves ends its request at once
            shutdown_timeout=_SHUTDOWN_S,
        )
        self.port = settings.port

    async def start(self) -> None:
        """Listen. Raises OSError naming the address when it is taken."""
        host, port, tls = self._settings.host, self._settings.port, self._settings.security.tls
        context = None if tls is None else tls.http_context()
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, host, port, backlog=1024, ssl_context=context)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise OSError(
                error.errno, f"cannot listen on {host}:{port}: {error.strerror}"
            ) from error
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening; what still runs is cancelled after a second."""
        await self._runner.cleanup()

    async def _part_while_draining(
        self, _request: web.Request, response: web.StreamResponse
    ) -> None:
        # On a kept connection a client, and its every retry, would come back to this pod.
        if self._pipeline.drain.draining:
            response.force_close()
            response.headers["Connection"] = "close"

    def _scheduled(self, path: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        door = Door("http", f"POST {path}")

        async def handle(request: web.Request) -> web.StreamResponse:
            return await _Conversation(self, request, door).answer(path)

        return handle

    def parse(self, path: str, data: bytes, context: CallContext) -> InferenceCall:
        """The validated call in a request body."""
        try:
            body = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(
                f"the body is not valid JSON: {error}", param=None, code="invalid_json"
            ) from error
        return self._requests.parse(path, body, context)

    @property
    def pipeline(self) -> Pipeline:
        """What serves the calls."""
        return self._pipeline


class _Conversation:
    """One request of a scheduled endpoint and its answer."""

    def __init__(self, door: HttpDoor, request: web.Request, span: Door) -> None:
        self._door = door
        self._request = request
        self._span = span
        self._id = http_headers.request_id(request.headers)
        self._response: web.StreamResponse | None = None

    async def answer(self, path: str) -> web.StreamResponse:
        """Serve it. Errors of ours become answers here; a client that left stays an exception."""
        headers = self._request.headers
        parent = context_of(headers) if "traceparent" in headers else None
        try:
            call = await self._call(path, parent)
            async with self._door.pipeline.serve(call, door=self._span, parent=parent) as served:
                return await self._send(served)
        except LLMServiceError as error:
            return await self._fail(error)

    async def _call(self, path: str, parent: Context | None) -> InferenceCall:
        try:
            data = await self._request.read()
            context = http_headers.call_context(
                self._request.headers, request_id=self._id, tenant=self._request[TENANT]
            )
            return self._door.parse(path, data, context)
        except (InvalidRequest, web.HTTPRequestEntityTooLarge) as error:
            nothing = _unreadable(path, CallContext(request_id=self._id))
            told = error if isinstance(error, InvalidRequest) else _too_long()
            self._door.pipeline.refuse(nothing, told, door=self._span, parent=parent)
            raise

    async def _send(self, served: Served) -> web.StreamResponse:
        headers = {
            "Content-Type": served.content_type,
            http_headers.REQUEST_ID: self._id,
            http_headers.QUEUE_MS: f"{served.queue_wait_s * 1000:.1f}",
        }
        if not served.content_type.startswith(_EVENT_STREAM):
            body = b"".join([part async for part in served.chunks()])
            return web.Response(status=served.status, body=body, headers=headers)
        headers["Cache-Control"] = "no-cache"
        response = web.StreamResponse(status=served.status, headers=headers)
        self._response = response
        await response.prepare(self._request)
        write = response.write
        async for chunk in served.chunks():
            await write(chunk)
        await response.write_eof()
        return response

    async def _fail(self, error: LLMServiceError) -> web.StreamResponse:
        answer: HttpError = http_error(error)
        response = self._response
        if response is None or not response.prepared:
            return response_of(answer, request_id=self._id)
        _log.warning("request %s failed while it was streamed: %s", self._id, error)
        response.force_close()  # the client must not take this for the answer's end
        await response.write(b"data: " + answer.body + b"\n\n")
        await response.write_eof()
        return response


def _too_long() -> InvalidRequest:
    return InvalidRequest(f"the body has more than {MAX_BODY_BYTES} bytes", param=None)


def _unreadable(path: str, context: CallContext) -> InferenceCall:
    """A stand-in for a call that could not be read, for its span and its metrics."""
    endpoint = ENDPOINTS[path]
    return InferenceCall(
        request_id=context.request_id,
        path=path,
        body={},
        query=PredictionQuery(text="", prompt_tokens=0, endpoint=endpoint.name, model=""),
        operation=endpoint.operation,
    )
