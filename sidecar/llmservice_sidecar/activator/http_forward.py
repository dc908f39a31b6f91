"""One HTTP request to one replica and its answer back, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from llmservice_sidecar.activator.hold import CONNECT_TIMEOUT_S, ReplicaFailed

_KEEPALIVE_S: Final = 3.0
_WRITTEN_AT_ONCE: Final = 256 * 1024
_BROKEN: Final = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)
# Of one connection, not of the message (RFC 9110, section 7.6.1), and what each side makes anew.
_HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
    }
)
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMessage:
    """A whole request, read from the client."""

    method: str
    path: str  # with the query, as they came
    headers: CIMultiDict[str]
    body: bytes


class HttpReplicas:
    """The client side of the HTTP door: connections to replicas."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the connection pool."""
        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(_headers_sent)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            trace_configs=[tracing],
            skip_auto_headers=_AUTOMATIC,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def ask(
        self, address: str, message: HttpMessage, *, written: Callable[[], None]
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The replica's answer; leaving the block early breaks the connection, which cancels.

        `written` is called when the request is on its way. Raises ReplicaFailed before the block.
        """
        if self._session is None:
            raise RuntimeError("not started")
        try:
            response = await self._session.request(
                message.method,
                URL(f"http://{address}{message.path}", encoded=True),
                data=_payload(message.body),
                headers=message.headers,
                allow_redirects=False,
                trace_request_ctx=written,
            )
        except _BROKEN as error:
            # It is logged: the system's words say what is wrong, aiohttp's may quote what was sent.
            kind = type(error).__name__
            why = str(error) or kind if isinstance(error, OSError) else kind
            raise ReplicaFailed(f"{address}: {why}") from error
        try:
            yield response
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()


async def pass_on(
    answer: aiohttp.ClientResponse, request: web.Request, *, extra: Mapping[str, str]
) -> web.StreamResponse:
    """Stream an answer to the client as it arrives. A break becomes a broken connection."""
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    response.headers.extend(end_to_end(answer.headers))
    response.headers.update(extra)
    if (length := answer.headers.get("Content-Length")) is not None:
        response.content_length = int(length)
    # The next request is to find the replica itself: a kept connection would come back here.
    response.force_close()
    response.headers["Connection"] = "close"
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except _BROKEN as error:
        # The client must not take what it has for the whole answer.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the replica broke off its answer") from error
    await response.write_eof()
    return response


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers that belong to the message."""
    named = {
        name.strip().lower()
        for value in headers.getall("Connection", ())
        for name in value.split(",")
    }
    dropped = _HOP_BY_HOP | named | {"content-length"}
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in dropped)


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    # A large one is written piece by piece: others have their turn in between.
    return io.BytesIO(body) if len(body) > _WRITTEN_AT_ONCE else body or None


async def _headers_sent(
    _: aiohttp.ClientSession,
    context: SimpleNamespace,
    __: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    context.trace_request_ctx()
