"""Every error of the OpenAI door in OpenAI's JSON shape, those of aiohttp itself included."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from llmservice_sidecar.adapters import http_headers
from llmservice_sidecar.adapters.error_map import HttpError, http_error, not_found, openai_error
from llmservice_sidecar.core.errors import LLMServiceError, Reason

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_INVALID: Final = "invalid_request_error"


@web.middleware
async def in_openai_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into an answer; cancellation and lost connections pass."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return response_of(not_found(request.path), request_id=_id(request))
    except web.HTTPMethodNotAllowed as error:
        return _refusal(request, error, f"{request.method} is not allowed for {request.path}")
    except web.HTTPException as error:
        return _refusal(request, error, error.reason)
    except LLMServiceError as error:
        return response_of(http_error(error), request_id=_id(request))
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception as error:
        # Its text may hold anything of the request, and so may a path: only kind and place.
        place = traceback.format_tb(error.__traceback__)
        _log.error(
            "request %s failed inside the sidecar: %s at\n%s",
            _id(request),
            type(error).__name__,
            place[-1],
        )
        internal = LLMServiceError(Reason.INTERNAL, "the sidecar failed; its log says why")
        return response_of(http_error(internal), request_id=_id(request))


def response_of(error: HttpError, *, request_id: str) -> web.Response:
    """An error as an aiohttp response."""
    headers = {
        "Content-Type": error.content_type,
        http_headers.REQUEST_ID: request_id,
        **error.headers,
    }
    return web.Response(status=error.status, body=error.body, headers=headers)


def _refusal(request: web.Request, error: web.HTTPException, message: str) -> web.Response:
    code = HTTPStatus(error.status).phrase.lower().replace(" ", "_")
    allow = error.headers.get("Allow")
    shaped = HttpError(
        status=error.status,
        body=openai_error(message, kind=_INVALID, code=code),
        headers={"Allow": allow} if allow else {},
    )
    return response_of(shaped, request_id=_id(request))


def _id(request: web.Request) -> str:
    return http_headers.request_id(request.headers)
