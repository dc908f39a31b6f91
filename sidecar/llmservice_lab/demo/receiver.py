"""An OTLP receiver in this process: takes spans by gRPC from the sidecar and from vLLM.

Payloads are kept as they came and decoded after the measurement: it must not cost the engine time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import grpc

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_MAX_MESSAGE_BYTES: Final = 64 << 20
_STOP_GRACE_S: Final = 2.0


class SpanReceiver:
    """Listens on a free loopback port inside its `with` block; `payloads` grows as spans arrive."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []  # serialised ExportTraceServiceRequest, in arrival order
        self.endpoint = ""
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=1),
            options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)],
        )

    def __enter__(self) -> Self:
        # No deserialiser: the handler sees bytes. An empty message is a valid response.
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            self._export
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),)
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(_STOP_GRACE_S).wait(_STOP_GRACE_S + 1)

    def _export(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        del context
        self.payloads.append(payload)
        return b""
