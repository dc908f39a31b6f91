"""What a door hands to the pipeline, and what it gets back. Knows neither HTTP nor gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime.ports import PredictionQuery

# What a client may say of its own priority: the name of a level. An HTTP header, a metadata key.
PRIORITY_HINT: Final = "x-llmservice-priority"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the queue. `predicted_wait_s`: from now to the start; None: nothing is known."""

    standing: Standing
    predicted_wait_s: float | None


OnQueued = Callable[[Place], Awaitable[None]]


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
    client's deadline, counted from the moment the call is served. `priority` names a level of the
    live configuration; None means the highest, so that naming one can only lower a call.
    """

    request_id: RequestId
    path: str
    body: dict[str, object]
    query: PredictionQuery
    slots: int = 1  # n x prompts
    other_prompt_tokens: int = 0  # that the query's text says nothing of: tools, further prompts
    stream: bool = False
    include_usage: bool = False  # the client itself asked for the trailing usage event
    timeout_s: float | None = None
    tenant: str | None = None
    priority: str | None = None
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
