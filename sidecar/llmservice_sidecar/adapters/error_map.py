"""The one mapping from our errors to what HTTP and gRPC clients see. Imports neither library.

gRPC codes are named, not imported, so that the HTTP door works without grpc.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import msgspec

from llmservice_sidecar.core.errors import (
    AdmissionError,
    EngineRefused,
    InvalidRequest,
    LLMServiceError,
    Reason,
)

JSON: Final = "application/json"
CLIENT_CLOSED_REQUEST: Final = 499  # nginx's word for a client that left; nobody reads the answer


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How one reason looks from outside: HTTP status, OpenAI `type` and `code`, gRPC code name."""

    http_status: int
    type: str
    code: str
    grpc_code: str


_OVERLOAD: Final = "rate_limit_error"
_INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_TIMEOUT: Final = "timeout_error"

ERROR_ROWS: Final[Mapping[Reason, ErrorRow]] = {
    Reason.QUEUE_FULL: ErrorRow(429, _OVERLOAD, "queue_full", "RESOURCE_EXHAUSTED"),
    Reason.QUEUED_TOKENS: ErrorRow(429, _OVERLOAD, "queued_tokens", "RESOURCE_EXHAUSTED"),
    Reason.QUEUE_SHARE: ErrorRow(429, _OVERLOAD, "queue_share", "RESOURCE_EXHAUSTED"),
    Reason.DEADLINE_UNREACHABLE: ErrorRow(
        429, _OVERLOAD, "deadline_unreachable", "RESOURCE_EXHAUSTED"
    ),
    Reason.TOO_LARGE: ErrorRow(400, _INVALID, "too_large", "INVALID_ARGUMENT"),
    Reason.INVALID: ErrorRow(400, _INVALID, "invalid_value", "INVALID_ARGUMENT"),
    Reason.UNAUTHENTICATED: ErrorRow(401, _INVALID, "invalid_api_key", "UNAUTHENTICATED"),
    Reason.DRAINING: ErrorRow(503, _SERVER, "draining", "UNAVAILABLE"),
    Reason.DEADLINE: ErrorRow(504, _TIMEOUT, "deadline_exceeded", "DEADLINE_EXCEEDED"),
    Reason.QUEUE_TIMEOUT: ErrorRow(504, _TIMEOUT, "deadline_exceeded", "DEADLINE_EXCEEDED"),
    Reason.CLIENT_GONE: ErrorRow(CLIENT_CLOSED_REQUEST, _INVALID, "client_gone", "CANCELLED"),
    Reason.ENGINE_DOWN: ErrorRow(503, _SERVER, "engine_down", "UNAVAILABLE"),
    Reason.ENGINE_ERROR: ErrorRow(502, _SERVER, "engine_error", "INTERNAL"),
    Reason.ENGINE_REFUSED: ErrorRow(502, _SERVER, "engine_refused", "INTERNAL"),
    Reason.INTERNAL: ErrorRow(500, _SERVER, "internal", "INTERNAL"),
}
MODEL_NOT_FOUND: Final = ErrorRow(404, _INVALID, "model_not_found", "NOT_FOUND")

# What an engine's own HTTP status means to a gRPC client; anything else is INTERNAL.
_GRPC_OF_HTTP: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpError:
    """A whole HTTP answer: OpenAI's error shape, or the engine's own body untouched."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcError:
    """What a gRPC status needs: code by name, message, retry delay, and the bad field if any."""

    code: str
    message: str
    retry_after_s: float | None = None
    field: str | None = None
    reason: Reason


def row_of(error: LLMServiceError) -> ErrorRow:
    """The row of an error. Total: a reason without a row is a bug that a test finds."""
    if isinstance(error, InvalidRequest) and error.code == MODEL_NOT_FOUND.code:
        return MODEL_NOT_FOUND
    return ERROR_ROWS[error.reason]


def http_error(error: LLMServiceError) -> HttpError:
    """The HTTP answer for an error; an engine's own refusal is passed on byte for byte."""
    if isinstance(error, EngineRefused):
        return HttpError(status=error.status, body=error.body, content_type=error.content_type)
    row = row_of(error)
    invalid = error if isinstance(error, InvalidRequest) else None
    return HttpError(
        status=row.http_status,
        body=openai_error(
            str(error),
            kind=row.type,
            param=invalid.param if invalid else None,
            code=invalid.code if invalid else row.code,
        ),
        headers=retry_headers(retry_after_of(error)) | _challenge(row),
    )


def grpc_error(error: LLMServiceError) -> GrpcError:
    """The gRPC status for an error, still free of grpc's types."""
    code, message = row_of(error).grpc_code, str(error)
    if isinstance(error, EngineRefused):
        code = _GRPC_OF_HTTP.get(error.status, "INTERNAL")
        message = _engine_message(error)
    return GrpcError(
        code=code,
        message=message,
        retry_after_s=retry_after_of(error),
        field=error.param if isinstance(error, InvalidRequest) else None,
        reason=error.reason,
    )


def openai_error(message: str, *, kind: str, param: str | None = None, code: str) -> bytes:
    """An error body in OpenAI's shape; also for what fails before there is a request (404)."""
    return msgspec.json.encode(
        {"error": {"message": message, "type": kind, "param": param, "code": code}}
    )


def not_found(path: str) -> HttpError:
    """No door at this path."""
    message = f"unknown path {path}; served: /v1/chat/completions, /v1/completions, /v1/responses"
    body = openai_error(message, kind=_INVALID, code="not_found")
    return HttpError(status=HTTPStatus.NOT_FOUND, body=body)


def retry_after_of(error: LLMServiceError) -> float | None:
    """Seconds after which a retry has a chance, where that is known."""
    return error.retry_after_s if isinstance(error, AdmissionError) else None


def retry_headers(retry_after_s: float | None) -> dict[str, str]:
    """`retry-after` in whole seconds (rounded up) and the exact `retry-after-ms`."""
    if retry_after_s is None:
        return {}
    return {
        "retry-after": str(max(1, math.ceil(retry_after_s))),
        "retry-after-ms": str(max(1, math.ceil(retry_after_s * 1000))),
    }


def _challenge(row: ErrorRow) -> dict[str, str]:
    """What HTTP wants beside every 401."""
    return {"WWW-Authenticate": "Bearer"} if row.http_status == HTTPStatus.UNAUTHORIZED else {}


class _EngineErrorDetail(msgspec.Struct):
    message: str = ""


class _EngineErrorBody(msgspec.Struct):
    error: _EngineErrorDetail = msgspec.field(default_factory=_EngineErrorDetail)
    message: str = ""


def _engine_message(error: EngineRefused) -> str:
    try:
        body = msgspec.json.decode(error.body, type=_EngineErrorBody)
    except msgspec.DecodeError:
        return str(error)  # not JSON or not OpenAI's shape: the status is all there is to tell
    return body.error.message or body.message or str(error)
