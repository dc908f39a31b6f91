"""A pipeline that does what a test scripts: wait, answer, fail. Stands at the seam `Inference`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from llmservice_api.status_report import QueueReport
from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.errors import LLMServiceError
from llmservice_sidecar.core.request import Prediction, RequestId
from llmservice_sidecar.runtime.call import Door, InferenceCall, OnQueued, Place
from llmservice_sidecar.runtime.ports import PredictionQuery
from opentelemetry.context import Context

IDLE = QueueReport(
    policy="SSJF",
    order="FCFS",
    queued_requests=3,
    queued_tokens=96.0,
    in_flight_slots=4,
    limit_slots=4,
    backlog_s=1.5,
    gamma_per_s=0.0,
)


@dataclass
class ScriptedAnswer:
    """What a served call gets: bytes, then the end, an error, or silence until `go_on` is set."""

    parts: Sequence[bytes]
    error: Exception | None = None
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    queue_wait_s: float = 0.25
    status: int = 200
    content_type: str = "text/event-stream"

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part
        if self.error is not None:
            raise self.error
        await self.go_on.wait()


@dataclass
class ScriptedPipeline:
    """`standing`: the call waits there until `turn` is set. `error`: it is refused instead.

    `predicted_wait_s`: how long it is expected to wait.
    """

    answer: ScriptedAnswer
    standing: Standing | None = None
    predicted_wait_s: float | None = None
    error: LLMServiceError | None = None
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_by: BaseException | None = None
    calls: list[InferenceCall] = field(default_factory=list[InferenceCall])
    doors: list[Door] = field(default_factory=list[Door])
    parents: list[Context | None] = field(default_factory=list["Context | None"])
    refused: list[LLMServiceError] = field(default_factory=list[LLMServiceError])

    @asynccontextmanager
    async def serve(
        self,
        call: InferenceCall,
        *,
        door: Door,
        parent: Context | None = None,
        on_queued: OnQueued | None = None,
    ) -> AsyncGenerator[ScriptedAnswer]:
        self.calls.append(call)
        self.doors.append(door)
        self.parents.append(parent)
        try:
            self._admit()
            if self.standing is not None:
                if on_queued is not None:
                    await on_queued(Place(self.standing, self.predicted_wait_s))
                await self.turn.wait()
            yield self.answer
        except BaseException as error:
            self.ended_by = error
            raise
        finally:
            self.ended.set()

    def _admit(self) -> None:
        if self.error is not None:
            raise self.error

    def refuse(
        self, call: InferenceCall, error: LLMServiceError, *, door: Door, parent: Context | None
    ) -> None:
        self.calls.append(call)
        self.doors.append(door)
        self.parents.append(parent)
        self.refused.append(error)

    async def predict(self, query: PredictionQuery) -> Prediction:
        return Prediction(output_tokens=float(len(query.text)), p90_tokens=99.0, source="model")

    def snapshot(self) -> QueueReport:
        return IDLE

    def place(self, request_id: RequestId) -> Place | None:
        """Of the last call that was served, while it waits."""
        waits = self.standing is not None and not self.turn.is_set()
        if not waits or not self.calls or self.calls[-1].request_id != request_id:
            return None
        assert self.standing is not None
        return Place(self.standing, self.predicted_wait_s)
