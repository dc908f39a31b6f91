"""The engine over HTTP on loopback. Turns aiohttp's errors into ours; knows no request format."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp

from llmservice_sidecar.adapters.engine_metrics import kv_cache_tokens
from llmservice_sidecar.core.errors import EngineUnavailable, Reason
from llmservice_sidecar.runtime.ports import EngineCall, EngineResponse

CONNECT_TIMEOUT_S: Final = 5.0
HEALTH_TIMEOUT_S: Final = 5.0
# Shorter than the engine keeps one (uvicorn: 5 s): never write to a connection that it is closing.
KEEPALIVE_S: Final = 3.0
_BROKEN: Final = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


class VllmEngine:
    """Implements `Engine`. Use as an async context manager; one per process and event loop."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    @property
    def is_local(self) -> bool:
        """The engine is on this machine's loopback."""
        host = urlsplit(self._url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # The gate bounds what is in flight; a second bound here would queue behind its back.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            # An answer may take hours; the deadline of the request is what ends it.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def post(self, call: EngineCall) -> AsyncGenerator[EngineResponse]:
        """Send a call; leaving the block before the answer's end aborts the generation."""
        async with self._request("POST", call.path, data=call.body, headers=call.headers) as answer:
            yield answer

    @contextlib.asynccontextmanager
    async def get(self, path: str) -> AsyncGenerator[EngineResponse]:
        """Ask for `path`."""
        async with self._request("GET", path) as answer:
            yield answer

    async def healthy(self) -> bool:
        """Whether the engine answers its health check in time."""
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S), self._request("GET", "/health") as answer:
                return answer.status == 200
        except (EngineUnavailable, TimeoutError):
            return False  # that is what is asked here

    async def kv_cache_tokens(self) -> int | None:
        """How many tokens the engine's KV cache holds; None if it does not tell."""
        try:
            async with (
                asyncio.timeout(HEALTH_TIMEOUT_S),
                self._request("GET", "/metrics") as answer,
            ):
                page = b"".join([chunk async for chunk in answer.chunks()])
        except (EngineUnavailable, TimeoutError):
            return None  # an engine that stays silent has told nothing
        return kv_cache_tokens(page.decode(errors="replace"))

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[EngineResponse]:
        if self._session is None:
            raise RuntimeError("the engine client is not open: use it as a context manager")
        try:
            url = self._url + path
            response = await self._session.request(method, url, data=data, headers=headers)
        except _BROKEN as error:
            raise _unavailable(self._url, error) from error
        try:
            yield _Response(self._url, response)
        finally:
            # Not `release`: what is left unread must end the generation, not be read to its end.
            if response.content.at_eof():
                response.release()
            else:
                response.close()


class _Response:
    """Implements `EngineResponse`."""

    def __init__(self, url: str, response: aiohttp.ClientResponse) -> None:
        self._url = url
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("content-type", "application/octet-stream")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Bytes as they arrive."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except _BROKEN as error:
            raise _unavailable(self._url, error) from error


def _unavailable(url: str, error: BaseException) -> EngineUnavailable:
    # The system's words tell what to do. aiohttp's quote what the engine sent, answers included,
    # and this text goes into logs and spans.
    why = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
    return EngineUnavailable(Reason.ENGINE_DOWN, f"the engine at {url} does not answer ({why})")
