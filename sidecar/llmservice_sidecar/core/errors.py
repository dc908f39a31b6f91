"""Why a request did not complete: a small tree, mapped once to HTTP and gRPC in the adapters."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The cause beside an outcome; a closed set, used as metric label and span attribute."""

    STOP = "stop"  # completed: the engine finished the answer
    LENGTH = "length"  # completed: the answer reached max_tokens
    QUEUE_FULL = "queue_full"
    QUEUED_TOKENS = "queued_tokens"
    TOO_LARGE = "too_large"  # wants more slots than the limit
    INVALID = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"  # no known API key
    DRAINING = "draining"
    QUEUE_SHARE = "queue_share"  # gave its place in a full queue to another tenant or priority
    DEADLINE = "deadline"
    DEADLINE_UNREACHABLE = "deadline_unreachable"  # refused: it cannot be met
    QUEUE_TIMEOUT = "queue_timeout"
    CLIENT_GONE = "client_gone"
    ENGINE_DOWN = "engine_down"
    ENGINE_ERROR = "engine_error"
    ENGINE_REFUSED = "engine_refused"  # the engine answered 4xx: passed on untouched
    INTERNAL = "internal"


class LLMServiceError(Exception):
    """Base of all errors a client may be told of. `reason` is stable, the text is for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class AdmissionError(LLMServiceError):
    """The request left without running.

    `retry_after_s`, where a retry has a chance, is computed from predicted remaining work.
    """

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after_s = retry_after_s


class RequestRejected(AdmissionError):
    """Refused before queueing."""


class RequestEvicted(AdmissionError):
    """Removed from the queue before its turn: time is up, or others have a better claim to it."""


class InvalidRequest(LLMServiceError):
    """The request names something that is not allowed; `param` is the field, OpenAI-style."""

    def __init__(self, message: str, *, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(Reason.INVALID, message)
        self.param = param
        self.code = code


class Unauthenticated(LLMServiceError):
    """The caller has no known API key. The text never quotes what it sent."""


class EngineError(LLMServiceError):
    """The engine failed the request."""


class EngineUnavailable(EngineError):
    """The engine cannot be reached or does not answer."""


class EngineRefused(EngineError):
    """The engine answered an error; `status` and `body` are its own, passed on untouched.

    Below 500 it means the request (too long, a bad parameter), else the engine itself.
    """

    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        reason = Reason.ENGINE_REFUSED if status < 500 else Reason.ENGINE_ERROR
        super().__init__(reason, f"the engine answered HTTP {status}")
        self.status = status
        self.body = body
        self.content_type = content_type


class DeadlineExceeded(LLMServiceError):
    """The client's deadline passed while the answer was being generated."""
