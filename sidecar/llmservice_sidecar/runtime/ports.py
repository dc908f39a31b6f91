"""What the runtime needs from the outside world: Protocols owned here, implemented in adapters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionQuery:
    """What a predictor may see of a request. No field ever carries the answer or its length.

    `text` is the prompt (chat turns joined), at most 16 KiB head and tail; `prompt_tokens` is exact
    when the client sent token ids, else an estimate (bytes / 4). `last_turn` is the last turn of a
    chat alone, cut like `text`; empty when there is but one. `system`: there are instructions
    beside the turns. `reasoning_effort` is the client's word ("none" or "on" when it turned
    thinking off or on); None: it said nothing.
    """

    text: str
    prompt_tokens: int
    endpoint: str  # "chat" | "completions" | "responses" | "generate"
    model: str
    max_tokens: int | None = None
    turns: int = 1
    has_tools: bool = False
    has_schema: bool = False
    system: bool = False
    last_turn: str = ""
    reasoning_effort: str | None = None


class Predictor(Protocol):
    """Maps a query to output tokens; never fails a request (deadline, fallback wrap it)."""

    async def predict(self, query: PredictionQuery) -> Prediction: ...

    def predictions(self, query: PredictionQuery) -> AsyncGenerator[Prediction]:
        """What `predict` says, and then a better word if there is one later."""
        ...

    def running_mean(self, query: PredictionQuery) -> Prediction:
        """What is said of such a request without looking at it."""
        ...

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnd:
    """What metrics learn of a request that has ended: sizes and seconds, never text.

    `trace_id` is 32 hex digits of a *sampled* trace (it becomes an exemplar), else None.
    """

    outcome: Outcome
    reason: Reason
    operation: str  # InferenceCall.operation
    model: str
    duration_s: float  # from the door to the last byte
    service_s: float | None = None  # from the call of the engine to the last byte; None: no call
    first_token_s: float | None = None  # from the door to the first token; None: there was none
    input_tokens: int | None = None
    output_tokens: int | None = None
    predicted_tokens: float | None = None  # made before the answer was known
    trace_id: str | None = None


class Tracer(Protocol):
    """Makes spans. The tracers of OpenTelemetry are such."""

    def start_span(
        self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL
    ) -> Span: ...


class RequestMetrics(Protocol):
    """Counts and times requests. Never raises, never waits."""

    def predicted(self, *, source: str, duration_s: float) -> None:
        """The predictor has answered (or its fallback has) after so many seconds."""
        ...

    def left_queue(
        self,
        *,
        wait_s: float,
        predicted_wait_s: float | None = None,
        trace_id: str | None = None,
    ) -> None:
        """A request was admitted, evicted or cancelled after waiting; 0 when it found a slot.

        `predicted_wait_s` is known of a sample of those that had to wait and were admitted.
        """
        ...

    def finished(self, end: RequestEnd) -> None:
        """A request has ended, whatever its outcome; called exactly once for each."""
        ...
