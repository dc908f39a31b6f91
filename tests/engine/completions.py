"""A small client that speaks to an engine directly, for tests of the engine alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
from llmservice_lab.engine.process import EngineProcess

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got, the same for a streamed answer and a whole one."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    completion_tokens: int
    prompt_tokens: int


@dataclass(slots=True)
class _Parts:
    text: list[str] = field(default_factory=list[str])
    token_ids: list[int] = field(default_factory=list[int])
    finish_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, event: Mapping[str, Any]) -> None:
        for choice in event.get("choices", []):
            message: dict[str, Any] = choice.get("delta") or choice.get("message") or {}
            self.text.append(choice.get("text") or message.get("content") or "")
            self.token_ids += choice.get("token_ids") or []
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.usage = event.get("usage") or self.usage

    def answer(self) -> Answer:
        return Answer(
            text="".join(self.text),
            token_ids=tuple(self.token_ids),
            finish_reason=self.finish_reason,
            completion_tokens=self.usage["completion_tokens"],
            prompt_tokens=self.usage["prompt_tokens"],
        )


class EngineClient:
    """Asks one engine; made inside the test's event loop."""

    def __init__(self, engine: EngineProcess, session: aiohttp.ClientSession) -> None:
        self._engine = engine
        self._session = session

    def body(
        self, prompt: str, *, path: str = COMPLETIONS, out_len: object = None, **more: object
    ) -> dict[str, object]:
        """The request's JSON; greedy unless `more` says otherwise."""
        body: dict[str, object] = {
            "model": self._engine.model,
            "max_tokens": 1000,
            "temperature": 0,
            "return_token_ids": True,
            **more,
        }
        if path == CHAT:
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if out_len is not None:
            body["vllm_xargs"] = {"out_len": out_len}
        return body

    async def ask(
        self,
        prompt: str,
        *,
        path: str = COMPLETIONS,
        out_len: object = None,
        stream: bool = False,
        **more: object,
    ) -> Answer:
        """The answer to `prompt`; fails the test on any status but 200."""
        body = self.body(prompt, path=path, out_len=out_len, **more)
        parts = _Parts()
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            async for event in self.events(path, body):
                parts.add(event)
        else:
            async with self._session.post(self._engine.url + path, json=body) as response:
                assert response.status == 200, await response.text()
                parts.add(await response.json())
        return parts.answer()

    async def events(self, path: str, body: Mapping[str, object]) -> AsyncIterator[dict[str, Any]]:
        """The server-sent events of a streamed answer, without the final marker."""
        async with self._session.post(self._engine.url + path, json=body) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])

    async def refusal(self, path: str, body: Mapping[str, object]) -> tuple[int, str]:
        """Status and message of a request that must fail."""
        async with self._session.post(self._engine.url + path, json=body) as response:
            error = cast("dict[str, Any]", await response.json())
            return response.status, error["error"]["message"]

    async def get_json(self, path: str) -> Any:
        """The JSON that a GET of `path` answers."""
        async with self._session.get(self._engine.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples on the engine's /metrics."""
        async with self._session.get(f"{self._engine.url}/metrics") as response:
            text = await response.text()
        samples = [line for line in text.splitlines() if line.startswith((name + "{", name + " "))]
        assert samples, f"the engine exports no {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples)

    async def metric_reaches(self, name: str, value: float, *, timeout_s: float = 10) -> None:
        """Wait until a metric has a value: gauges lag behind by up to a second."""
        async with asyncio.timeout(timeout_s):
            while await self.metric(name) != value:  # noqa: ASYNC110 - another process's metric
                await asyncio.sleep(0.05)
