"""An engine over HTTP that is slow on request: long prompts, a pause in the stream, wide events.

`vllm_xargs`: `out_len` tokens come out, `pause_after` so many of them the stream rests for
`pause_ms`; each event is `pad` bytes wider. A prompt takes half a millisecond a word.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, Self

from aiohttp import web

STEP_S: Final = 0.025
PREFILL_S_PER_WORD: Final = 0.0005


class StagedEngine:
    """Listens on loopback while its `async with` block lasts."""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._health)
        app.router.add_post("/v1/completions", self._complete)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        asked: dict[str, int] = body["vllm_xargs"]
        words, tokens = len(body["prompt"].split()), asked["out_len"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(words * PREFILL_S_PER_WORD)
        text = "x" * (1 + asked.get("pad", 0))
        for number in range(tokens):
            if number and number == asked.get("pause_after"):
                await asyncio.sleep(asked["pause_ms"] / 1000)
            await asyncio.sleep(STEP_S)
            finish = "stop" if number == tokens - 1 else None
            await _send(response, {"choices": [{"text": text, "finish_reason": finish}]})
        usage = {"prompt_tokens": words, "completion_tokens": tokens}
        await _send(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


async def _send(response: web.StreamResponse, document: dict[str, Any]) -> None:
    data = json.dumps(document, separators=(",", ":")).encode()
    await response.write(b"data: " + data + b"\n\n")
