"""The OpenAI door asks who is calling before it reads anything else."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from llmservice_sidecar.adapters.callers import Callers

# Where a request keeps it.
TENANT: Final[web.RequestKey[str | None]] = web.RequestKey("llmservice.tenant")
# Gateways probe one, Prometheus and endpoint pickers read the other; neither says what was asked.
OPEN_PATHS: Final = frozenset({"/health", "/metrics"})


def known_callers(callers: Callers) -> Middleware:
    """Refuses whom `callers` does not know, on every path but the open ones, unknown ones too."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN_PATHS:
            request[TENANT] = callers.tenant(request.headers)
        return await handler(request)

    return ask
