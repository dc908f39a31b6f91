"""Our errors as gRPC statuses with details and trailers; what they mean is in error_map."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from llmservice_api.names import GROUP

from llmservice_sidecar.adapters.error_map import GrpcError, grpc_error
from llmservice_sidecar.core.errors import LLMServiceError

Call = grpc.aio.ServicerContext[Any, Any]

DETAILS_TRAILER: Final = "grpc-status-details-bin"
PUSHBACK_TRAILER: Final = "grpc-retry-pushback-ms"  # the one that clients' retry policies honour


async def abort(context: Call, error: LLMServiceError) -> NoReturn:
    """End the call with the status of `error`.

    Details and trailers go in one call: `abort_with_status` loses trailers set before.
    """
    mapped = grpc_error(error)
    code = grpc.StatusCode[mapped.code]
    await context.abort(code, mapped.message, trailing_metadata=tuple(_trailers(code, mapped)))
    raise AssertionError("abort returned")  # it raises; the type checker cannot know


def _trailers(code: grpc.StatusCode, error: GrpcError) -> Iterable[tuple[str, str | bytes]]:
    status = Status(code=code.value[0], message=error.message, details=list(_details(error)))
    yield DETAILS_TRAILER, status.SerializeToString()
    if error.retry_after_s is not None:
        yield PUSHBACK_TRAILER, str(math.ceil(error.retry_after_s * 1000))


def _details(error: GrpcError) -> Iterable[AnyMessage]:
    yield _packed(ErrorInfo(reason=error.reason.upper(), domain=GROUP))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(math.ceil(error.retry_after_s * 1000))
        yield _packed(RetryInfo(retry_delay=delay))
    if error.field is not None:
        violation = BadRequest.FieldViolation(field=error.field, description=error.message)
        yield _packed(BadRequest(field_violations=[violation]))


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
