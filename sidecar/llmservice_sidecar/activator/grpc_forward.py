"""One gRPC call to one replica and its answer back: bytes, metadata, trailers and status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from typing import Any, Final, NoReturn, cast

import grpc
import grpc.aio

from llmservice_sidecar.activator.hold import CONNECT_TIMEOUT_S, ReplicaFailed
from llmservice_sidecar.adapters.grpc_errors import PUSHBACK_TRAILER, Call

Metadata = tuple[tuple[str, str | bytes], ...]
ReplicaCall = grpc.aio.UnaryStreamCall[bytes, bytes]

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A replica that comes back is asked again by the activator's own pause, not gRPC's minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
# Of one connection, and made anew by each side of gRPC.
_NOT_PASSED_ON: Final = frozenset({"user-agent", "te", "content-type", "host"})
_PASSED_ON: Final = frozenset({"grpc-trace-bin", "grpc-tags-bin"})
_END: Final = cast("Any", grpc.aio).EOF  # not in the stubs
_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 5.0


class GrpcReplicas:
    """A channel for each replica that is asked, closed when the replica and its calls are gone."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._calls: dict[str, int] = {}

    @property
    def addresses(self) -> Collection[str]:
        """Where there are channels to."""
        return self._channels.keys()

    @contextlib.asynccontextmanager
    async def ask(
        self,
        address: str,
        method: str,
        request: bytes,
        *,
        metadata: Metadata,
        timeout_s: float | None,
    ) -> AsyncGenerator[ReplicaCall]:
        """A call under way; leaving the block before its end cancels it.

        Raises ReplicaFailed before the block when there is no connection.
        """
        channel = self._channels.get(address)
        if channel is None:
            channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
            self._channels[address] = channel
        self._calls[address] = self._calls.get(address, 0) + 1
        try:
            await _connected(channel, address)
            untyped: Any = channel
            make = untyped.unary_stream(method)  # no serializers: bytes in, bytes out
            call: ReplicaCall = make(request, metadata=metadata, timeout=timeout_s)
            try:
                yield call
            finally:
                call.cancel()  # no effect on one that has ended
        finally:
            self._calls[address] -= 1

    async def keep(self, addresses: Iterable[str]) -> None:
        """Close the channels of all other replicas that have no call any more."""
        kept = set(addresses)
        for address in [a for a in self._channels if a not in kept and not self._calls[a]]:
            del self._calls[address]
            await self._channels.pop(address).close()

    async def close(self) -> None:
        """Close all; calls are cancelled."""
        for channel in self._channels.values():
            await channel.close()


async def _connected(channel: grpc.aio.Channel, address: str) -> None:
    # Calls that are made before go out in no order when the connection is there.
    state = channel.get_state(try_to_connect=True)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while state is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    raise ReplicaFailed(f"{address}: no connection")
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        raise ReplicaFailed(f"{address}: no connection in {CONNECT_TIMEOUT_S:.0f} s") from None


async def pass_on(call: ReplicaCall, context: Call, *, taken: Callable[[], None]) -> None:
    """Stream an answer to the client as it arrives; `taken` is called when there is one.

    Raises AioRpcError when the replica refused before it said anything: nothing was passed on.
    """
    initial = await call.initial_metadata()
    if initial:
        taken()
        await context.send_initial_metadata(_told(initial))
        message = await _read_or_abort(call, context)
    else:
        # A refusal comes without them: what it says decides whether the client hears of it.
        message = await call.read()
        taken()
    while message is not _END:
        await context.write(message)
        message = await _read_or_abort(call, context)
    context.set_trailing_metadata(_told(await call.trailing_metadata()))


async def abort_as(error: grpc.aio.AioRpcError, context: Call) -> NoReturn:
    """End the client's call as the replica ended ours."""
    trailers = _told(error.trailing_metadata())
    await context.abort(error.code(), error.details() or "", trailing_metadata=trailers)
    raise AssertionError("abort returned")  # it raises; the type checker cannot know


def again_after_s(error: grpc.aio.AioRpcError, *, held: bool) -> float | None:
    """Seconds after which to ask again instead of passing a refusal on; None: pass it on.

    As for HTTP: UNAVAILABLE is 503, RESOURCE_EXHAUSTED is 429.
    """
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return _PAUSE_S
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and held:
        given = dict(_told(error.trailing_metadata())).get(PUSHBACK_TRAILER, "")
        pause_s = int(given) / 1000 if isinstance(given, str) and given.isdigit() else _PAUSE_S
        return min(_LONGEST_PAUSE_S, max(0.05, pause_s))
    return None


def passed_on(metadata: Sequence[tuple[str, str | bytes]]) -> Metadata:
    """The client's metadata that belong to the call."""
    return tuple(
        (key, value)
        for key, value in metadata
        if key in _PASSED_ON or not (key in _NOT_PASSED_ON or key.startswith(("grpc-", ":")))
    )


async def _read_or_abort(call: ReplicaCall, context: Call) -> Any:
    try:
        return await call.read()
    except grpc.aio.AioRpcError as error:
        await abort_as(error, context)


def _told(metadata: Any) -> Metadata:
    return tuple((str(key), value) for key, value in metadata)
