"""What a door hands to the pipeline, and what it gets back. Knows neither HTTP nor gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime.ports import PredictionQuery

OnQueued = Callable[[Standing], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Door:
    """Through which a call came: `kind` is "http" or "grpc", `name` names the SERVER span."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceCall:
    """One validated inference call.

    `path` is the engine's (`/v1/chat/completions`), `body` its allow-listed JSON object; the
    pipeline adds `priority` and `stream_options.include_usage` on the way. `timeout_s` is the
    client's deadline, counted from the moment the call is served.
    """

    request_id: RequestId
    path: str
    body: dict[str, object]
    query: PredictionQuery
    slots: int = 1  # n x prompts
    stream: bool = False
    include_usage: bool = False  # the client itself asked for the trailing usage event
    timeout_s: float | None = None
    tenant: str | None = None
    operation: str = "chat"  # gen_ai.operation.name: "chat" | "text_completion"


class Served(Protocol):
    """An admitted call whose engine answered 200. Leaving `Pipeline.serve` ends it."""

    @property
    def queue_wait_s(self) -> float: ...

    @property
    def status(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The answer's bytes as they came, the trailing usage event left out unless asked for.

        Raises EngineError when the engine breaks off, DeadlineExceeded when the time is up.
        """
        ...
