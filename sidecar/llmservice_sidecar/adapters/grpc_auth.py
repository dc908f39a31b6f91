"""The gRPC door asks who is calling, whatever the method: reflection too, health not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

import grpc
import grpc.aio

from llmservice_sidecar.adapters.callers import Callers
from llmservice_sidecar.adapters.grpc_errors import Call, abort
from llmservice_sidecar.core.errors import Unauthenticated

_OPEN: Final = "/grpc.health.v1.Health/"  # load balancers and kubelets have no key
_TENANT: Final[ContextVar[str | None]] = ContextVar("tenant")  # of the call that is served
Handler = Any  # grpc.RpcMethodHandler, which is generic for type checkers only


class KnownCallers(grpc.aio.ServerInterceptor):
    """Refuses whom `callers` does not know with UNAUTHENTICATED; once for each call.

    The handler runs in the same task and learns from `caller_tenant` who it is.
    """

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The method's own handler, or one that refuses."""
        details = handler_call_details
        if not details.method.startswith(_OPEN):
            try:
                _TENANT.set(self._callers.tenant(text_metadata(details.invocation_metadata)))
            except Unauthenticated as error:
                return _refusing(error)
        return await continuation(details)


def caller_tenant() -> str | None:
    """Whose call this handler serves. Raises LookupError where nobody has asked who is calling."""
    return _TENANT.get()


def text_metadata(metadata: Any) -> dict[str, str]:
    """Metadata without its binary entries; gRPC has made the keys lower case."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _refusing(error: Unauthenticated) -> Handler:
    async def refuse(_: AsyncIterator[bytes], context: Call) -> None:
        await abort(context, error)

    # Of the most general kind: it answers without waiting for a message, whatever the method is.
    make: Any = grpc.stream_stream_rpc_method_handler  # its type has holes
    return make(refuse)
