"""What the OpenAI door hands to the engine without a turn: models, tokenize, health, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

import msgspec
from aiohttp import web

from llmservice_sidecar.adapters.telemetry_merge import as_open_metrics, merge_engine_metrics
from llmservice_sidecar.core.errors import EngineUnavailable, InvalidRequest
from llmservice_sidecar.runtime.ports import Engine, EngineCall, EngineResponse

_TOKENIZE_FIELDS: Final = frozenset(
    {
        *("model", "prompt", "messages", "tools", "chat_template_kwargs"),
        *("add_special_tokens", "add_generation_prompt", "return_token_strs"),
    }
)
_TEXT_FORMAT: Final = "text/plain"
_ENGINE_METRICS_S: Final = 2.0
_OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0"  # the one with exemplars


class PassThrough:
    """The unscheduled paths. `metrics` renders ours for an Accept header; `queued` counts."""

    def __init__(
        self,
        engine: Engine,
        *,
        metrics: Callable[[str], tuple[bytes, str]],
        queued: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._queued = queued

    def add_to(self, app: web.Application) -> None:
        """Add the paths."""
        app.router.add_get("/v1/models", self._get)
        app.router.add_get("/health", self._get)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_get("/metrics", self._merged_metrics)

    async def _get(self, request: web.Request) -> web.Response:
        async with self._engine.get(request.path) as answer:
            return await _copy(answer)

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            fields = msgspec.json.decode(body, type=dict[str, object])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidRequest(f"the body is not a JSON object: {error}", param=None) from error
        template_args = fields.get("chat_template_kwargs")
        names = set(fields)
        if isinstance(template_args, dict):
            names |= {"chat_template"} & cast("dict[str, object]", template_args).keys()
        for name in sorted(names - _TOKENIZE_FIELDS):
            raise InvalidRequest(
                f"Unsupported parameter: '{name}' is not supported by this service.",
                param=name,
                code="unsupported_parameter",
            )
        headers = {"content-type": "application/json"}
        call = EngineCall(path="/tokenize", body=body, headers=headers)
        async with self._engine.post(call) as answer:
            return await _copy(answer)

    async def _merged_metrics(self, request: web.Request) -> web.Response:
        """An endpoint picker reads the port it routes to: both parts' metrics in one answer."""
        is_open = "openmetrics" in request.headers.get("Accept", "")
        engine = await self._engine_metrics()  # vLLM speaks the text format only
        ours, content_type = self._metrics(_OPEN_METRICS if is_open else _TEXT_FORMAT)
        merged = merge_engine_metrics(
            as_open_metrics(engine) if is_open else engine,
            ours.decode(),
            queued_requests=self._queued(),
        )
        return web.Response(body=merged.encode(), headers={"Content-Type": content_type})

    async def _engine_metrics(self) -> str:
        try:
            async with asyncio.timeout(_ENGINE_METRICS_S), self._engine.get("/metrics") as answer:
                body = b"".join([part async for part in answer.chunks()])
                return body.decode() if answer.status == 200 else ""
        except (EngineUnavailable, TimeoutError):
            # Ours say that it is down (llmservice_engine_up 0) and do not wait for one that hangs.
            return ""


async def _copy(answer: EngineResponse) -> web.Response:
    body = b"".join([part async for part in answer.chunks()])
    return web.Response(
        status=answer.status, body=body, headers={"Content-Type": answer.content_type}
    )
