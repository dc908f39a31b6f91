"""What an HTTP client says beside the body: its request id, deadline and priority."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llmservice_sidecar.adapters.client_hints import request_id_of
from llmservice_sidecar.adapters.openai_request import CallContext
from llmservice_sidecar.core.errors import InvalidRequest
from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime.call import PRIORITY_HINT

REQUEST_ID: Final = "X-Request-Id"
TIMEOUT_MS: Final = "x-request-timeout-ms"
QUEUE_MS: Final = "x-llmservice-queue-ms"
MAX_TIMEOUT_MS: Final = 24 * 3600 * 1000


def request_id(headers: Mapping[str, str]) -> RequestId:
    """The client's id if it is a fit one, else a new one."""
    return request_id_of(headers.get(REQUEST_ID))


def call_context(
    headers: Mapping[str, str], *, request_id: RequestId, tenant: str | None
) -> CallContext:
    """What the headers say of a call. Raises InvalidRequest naming the header."""
    return CallContext(
        request_id=request_id,
        timeout_s=timeout_s(headers),
        tenant=tenant,
        priority=headers.get(PRIORITY_HINT),
    )


def timeout_s(headers: Mapping[str, str]) -> float | None:
    """The client's time limit. Raises InvalidRequest naming the header."""
    given = headers.get(TIMEOUT_MS)
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or not 0 < int(given[:12]) <= MAX_TIMEOUT_MS:
        raise InvalidRequest(
            f"{TIMEOUT_MS} must be whole milliseconds from 1 to {MAX_TIMEOUT_MS}", param=TIMEOUT_MS
        )
    return int(given) / 1000
