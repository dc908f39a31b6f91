"""Each gRPC call is asked once who it is, and its handler learns the answer."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from fakes.mounted import MountedFiles
from llmservice_sidecar.adapters.callers import ApiKeys, Callers
from llmservice_sidecar.adapters.grpc_auth import KnownCallers, caller_tenant

METHOD = "/test.Service/WhoAmI"
FILES = {"search": b"key-of-search", "batch": b"key-of-batch"}


class Meeting:
    """A handler that answers when so many calls are in it at once, with each caller's tenant."""

    def __init__(self, calls: int) -> None:
        self._together = asyncio.Barrier(calls)

    async def who(self, _request: bytes, _context: Any) -> bytes:
        before = caller_tenant()
        await self._together.wait()
        assert caller_tenant() == before
        return str(before).encode()


@asynccontextmanager
async def serving(callers: Callers, handler: Meeting) -> AsyncGenerator[Any]:
    """Call the method of a real server behind the interceptor."""
    server = grpc.aio.server(interceptors=[KnownCallers(callers)])
    make: Any = grpc.unary_unary_rpc_method_handler  # its type has holes
    services: Any = grpc.method_handlers_generic_handler(
        "test.Service", {"WhoAmI": make(handler.who)}
    )
    server.add_generic_rpc_handlers((services,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_unary(METHOD)
    await server.stop(None)


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


async def test_a_call_is_compared_with_each_key_once_and_calls_do_not_meet(tmp_path: Path) -> None:
    compared = 0

    def counting(one: bytes, other: bytes) -> bool:
        nonlocal compared
        compared += 1
        return hmac.compare_digest(one, other)

    keys = ApiKeys(MountedFiles(tmp_path / "keys", FILES).directory, same=counting)
    keys.load_first()
    async with serving(keys, Meeting(2)) as call:
        both = [call(b"", metadata=bearer(f"key-of-{name}"), timeout=30) for name in FILES]
        assert [await answer for answer in both] == [b"search", b"batch"]
        assert compared == len(FILES) * len(both)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", metadata=bearer("wrong"), timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert keys.refusals == 1


def test_where_nobody_has_asked_there_is_no_tenant() -> None:
    with pytest.raises(LookupError):
        caller_tenant()
