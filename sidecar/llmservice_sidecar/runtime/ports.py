"""What the runtime needs from the outside world: Protocols owned here, implemented in adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from llmservice_sidecar.core.request import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionQuery:
    """What a predictor may see of a request. No field ever carries the answer or its length.

    `text` is the prompt (chat turns joined), at most 16 KiB head and tail; `prompt_tokens` is exact
    when the client sent token ids, else an estimate (bytes / 4).
    """

    text: str
    prompt_tokens: int
    endpoint: str  # "chat" | "completions" | "responses" | "generate"
    model: str
    max_tokens: int | None = None
    turns: int = 1
    has_tools: bool = False
    has_schema: bool = False


class Predictor(Protocol):
    """Maps a query to output tokens; never fails a request (deadline, fallback wrap it)."""

    async def predict(self, query: PredictionQuery) -> Prediction: ...

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        """A finished request: learn from it. `censored`: cut by max_tokens or by a cancel."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCall:
    """One call to the engine: path, JSON body and headers, ready to send."""

    path: str
    body: bytes
    headers: Mapping[str, str]


class EngineResponse(Protocol):
    """The engine's answer while it arrives. Closing the context aborts the generation."""

    @property
    def status(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Bytes as they arrive, uncut. Raises EngineUnavailable when the connection breaks."""
        ...


class Engine(Protocol):
    """The model server. Raises EngineUnavailable when it cannot be reached."""

    def post(self, call: EngineCall) -> AbstractAsyncContextManager[EngineResponse]: ...

    def get(self, path: str) -> AbstractAsyncContextManager[EngineResponse]: ...

    async def healthy(self) -> bool: ...
