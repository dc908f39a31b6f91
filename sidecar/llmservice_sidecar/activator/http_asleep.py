"""What a sleeping service answers without waking: probes and lists must not start a model."""

from __future__ import annotations

import msgspec
from aiohttp import web

from llmservice_sidecar.activator.hold import Target
from llmservice_sidecar.adapters.error_map import JSON, not_found
from llmservice_sidecar.adapters.http_errors import response_of
from llmservice_sidecar.adapters.http_headers import request_id
from llmservice_sidecar.adapters.openai_request import ENDPOINTS
from llmservice_sidecar.core.errors import Reason, RequestRejected

_NEEDS_A_REPLICA = ("/metrics", "/tokenize")


def wakes(request: web.Request) -> bool:
    """Whether the request is work for a model; all else lets it sleep."""
    return request.method == "POST" and request.path in ENDPOINTS


def asleep_answer(request: web.Request, target: Target) -> web.Response:
    """The answer for a service at zero replicas. Raises RequestRejected where it takes one."""
    if request.method in {"GET", "HEAD"}:
        if request.path == "/health":
            return web.Response()  # as vLLM's: status 200 without a body
        if request.path == "/v1/models":
            return web.Response(body=_models(target.models), content_type=JSON)
    if request.path in _NEEDS_A_REPLICA:
        raise RequestRejected(
            Reason.ENGINE_DOWN,
            f"the service sleeps at zero replicas, and {request.path} does not wake it: "
            f"{', '.join(ENDPOINTS)} do",
            retry_after_s=target.retry_after_s(),
        )
    if request.path in {*ENDPOINTS, "/health", "/v1/models"}:
        raise web.HTTPMethodNotAllowed(
            request.method, ["POST"] if request.path in ENDPOINTS else ["GET", "HEAD"]
        )
    return response_of(not_found(request.path), request_id=request_id(request.headers))


def _models(names: tuple[str, ...]) -> bytes:
    """OpenAI's list. `created` is unknown while nothing runs."""
    listed = [
        {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "llmservice",
            "root": names[0],
            "parent": None if name == names[0] else names[0],
        }
        for name in names
    ]
    return msgspec.json.encode({"object": "list", "data": listed})
