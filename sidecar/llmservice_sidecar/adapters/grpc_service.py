"""InferenceService: each call becomes an OpenAI call of the pipeline; the answer comes back typed.

The wait and the slot belong to the pipeline; leaving its block, also by cancellation, ends both.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol, cast

import grpc.aio
from llmservice_api.names import GRPC_SERVICE
from llmservice_api.status_report import QueueReport
from opentelemetry.context import Context

from llmservice_sidecar.adapters.client_hints import request_id_of
from llmservice_sidecar.adapters.grpc_answer import AnswerReader
from llmservice_sidecar.adapters.grpc_auth import caller_tenant, text_metadata
from llmservice_sidecar.adapters.grpc_errors import Call, abort
from llmservice_sidecar.adapters.grpc_queue import duration, queue_state, queued
from llmservice_sidecar.adapters.grpc_request import (
    CHAT_PATH,
    COMPLETIONS_PATH,
    openai_request,
)
from llmservice_sidecar.adapters.openai_request import CallContext, OpenAIRequests
from llmservice_sidecar.adapters.telemetry_tracing import context_of
from llmservice_sidecar.core.errors import InvalidRequest, LLMServiceError, Reason
from llmservice_sidecar.core.request import Prediction, RequestId
from llmservice_sidecar.runtime.call import (
    PRIORITY_HINT,
    Door,
    InferenceCall,
    OnQueued,
    Place,
    Served,
)
from llmservice_sidecar.runtime.ports import PredictionQuery
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceServicer,
)

_log = logging.getLogger(__name__)

REQUEST_ID_KEY: Final = "x-request-id"
QUEUE_MS_KEY: Final = "x-llmservice-queue-ms"
MIN_WATCH_INTERVAL_S: Final = 0.1
DEFAULT_WATCH_INTERVAL_S: Final = 1.0
# The call's own deadline must pass a little before gRPC's: else the call is cancelled from below,
# and the client's impatience would look like its leaving.
_DEADLINE_MARGIN_S: Final = 0.02
_GENERATE: Final = Door("grpc", f"{GRPC_SERVICE}/Generate")


class Inference(Protocol):
    """What the service asks of the pipeline; see there."""

    def serve(
        self,
        call: InferenceCall,
        *,
        door: Door,
        parent: Context | None = None,
        on_queued: OnQueued | None = None,
    ) -> AbstractAsyncContextManager[Served]: ...

    def refuse(
        self, call: InferenceCall, error: LLMServiceError, *, door: Door, parent: Context | None
    ) -> None: ...

    async def predict(self, query: PredictionQuery) -> Prediction: ...

    def snapshot(self) -> QueueReport: ...

    def place(self, request_id: RequestId) -> Place | None: ...


class InferenceService(InferenceServiceServicer):
    """The service's four methods. `model` answers requests that name none."""

    def __init__(
        self,
        pipeline: Inference,
        requests: OpenAIRequests,
        *,
        model: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipeline = pipeline
        self._requests = requests
        self._model = model
        self._clock = clock
        self._called_at: float | None = None

    @property
    def quiet_s(self) -> float | None:
        """Seconds since the last call; None: there was none."""
        return None if self._called_at is None else self._clock() - self._called_at

    async def Generate(self, request: pb.GenerateRequest, context: Call) -> None:  # noqa: N802 - the proto's name
        """Queue, generate, stream."""
        self._called_at = self._clock()
        metadata = text_metadata(context.invocation_metadata())
        async with _errors_as_status(context):
            call = self._call(request, context, metadata)
            await _Generation(self._pipeline, call, context, clock=self._clock).run(metadata)

    async def Predict(self, request: pb.PredictRequest, context: Call) -> pb.PredictResponse:  # noqa: N802 - the proto's name
        """Check the request as Generate would, and predict."""
        self._called_at = self._clock()
        async with _errors_as_status(context):
            call = self._parse(request.request, CallContext(request_id=RequestId("predict")))
            prediction = await self._pipeline.predict(call.query)
            return pb.PredictResponse(
                output_tokens=prediction.output_tokens,
                p90_tokens=prediction.p90_tokens,
                source=prediction.source,
                p50_tokens=prediction.p50_tokens,
            )
        raise AssertionError("an error is turned into a status, which raises")

    async def GetQueue(self, request: pb.GetQueueRequest, context: Call) -> pb.QueueState:  # noqa: N802 - the proto's name
        """The queue now."""
        del context
        return self._queue_state(request.request_id)

    async def WatchQueue(self, request: pb.WatchQueueRequest, context: Call) -> None:  # noqa: N802 - the proto's name
        """The queue now and then."""
        given = request.interval.ToTimedelta().total_seconds()
        interval_s = given if request.HasField("interval") else DEFAULT_WATCH_INTERVAL_S
        async with _errors_as_status(context):
            if interval_s < MIN_WATCH_INTERVAL_S:
                raise InvalidRequest(
                    f"interval is {interval_s} s; at least {MIN_WATCH_INTERVAL_S} s is allowed",
                    param="interval",
                )
            while True:  # until the client cancels or the server ends
                await context.write(self._queue_state(request.request_id))
                await asyncio.sleep(interval_s)

    def _call(
        self, request: pb.GenerateRequest, context: Call, metadata: dict[str, str]
    ) -> InferenceCall:
        known = CallContext(
            request_id=request_id_of(request.request_id or metadata.get(REQUEST_ID_KEY)),
            timeout_s=_timeout_s(context),
            tenant=caller_tenant(),
            priority=request.priority or metadata.get(PRIORITY_HINT),
        )
        try:
            call = self._parse(request, known)
        except InvalidRequest as error:
            refused = _without_content(request, known, model=self._model)
            self._pipeline.refuse(refused, error, door=_GENERATE, parent=context_of(metadata))
            raise
        if not request.return_token_ids:
            return call
        # Not among what HTTP clients may send: the engine's own field, which only adds ids.
        return replace(call, body=call.body | {"return_token_ids": True})

    def _queue_state(self, request_id: str) -> pb.QueueState:
        report = self._pipeline.snapshot()
        place = self._pipeline.place(RequestId(request_id)) if request_id else None
        request = None if place is None else queued(place, backlog_s=report.backlog_s)
        return queue_state(report, request=request)

    def _parse(self, request: pb.GenerateRequest, known: CallContext) -> InferenceCall:
        path, body = openai_request(request, model=self._model)
        return self._requests.parse(path, body, known)


class _Generation:
    """One Generate call from queueing to its last message."""

    def __init__(
        self,
        pipeline: Inference,
        call: InferenceCall,
        context: Call,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._call = call
        self._context = context
        self._clock = clock
        self._started = clock()
        self._first_token_s: float | None = None
        self._headers_sent = False

    async def run(self, metadata: dict[str, str]) -> None:
        """Serve the call; raises our errors."""
        reader = AnswerReader()
        async with self._pipeline.serve(
            self._call, parent=context_of(metadata), door=_GENERATE, on_queued=self._queued
        ) as served:
            await self._send_headers((QUEUE_MS_KEY, f"{served.queue_wait_s * 1000:.0f}"))
            async for chunk in served.chunks():
                for delta in reader.feed(chunk):
                    if self._first_token_s is None:
                        self._first_token_s = self._clock() - self._started
                    await self._write(pb.GenerateResponse(delta=delta))
            await self._write(pb.GenerateResponse(finished=self._finished(reader, served)))

    async def _queued(self, place: Place) -> None:
        # At once: a client without a sign of life for long takes the connection for dead.
        await self._send_headers()
        event = queued(place, backlog_s=self._pipeline.snapshot().backlog_s)
        await self._write(pb.GenerateResponse(queued=event))

    async def _write(self, message: pb.GenerateResponse) -> None:
        try:
            await self._context.write(message)
        except grpc.aio.InternalError as error:
            # The stream broke before gRPC cancelled this task: the client has left all the same.
            raise asyncio.CancelledError("the client's stream is broken") from error

    async def _send_headers(self, *more: tuple[str, str]) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            await self._context.send_initial_metadata(
                ((REQUEST_ID_KEY, self._call.request_id), *more)
            )

    def _finished(self, reader: AnswerReader, served: Served) -> pb.Finished:
        timings = pb.Timings(
            queue_wait=duration(served.queue_wait_s),
            total=duration(self._clock() - self._started),
        )
        if self._first_token_s is not None:
            timings.time_to_first_token.CopyFrom(duration(self._first_token_s))
        return pb.Finished(
            request_id=self._call.request_id,
            usage=reader.usage,
            timings=timings,
            model=reader.model,
        )


@asynccontextmanager
async def _errors_as_status(context: Call) -> AsyncGenerator[None]:
    try:
        yield
    except LLMServiceError as error:
        await abort(context, error)
    except Exception as error:
        # Its text may hold anything of the request: neither client nor log gets it, only where.
        place = traceback.format_tb(error.__traceback__)
        _log.error("internal error in a gRPC call: %s at\n%s", type(error).__name__, place[-1])
        await abort(
            context, LLMServiceError(Reason.INTERNAL, "internal error; see the sidecar log")
        )


def _without_content(
    request: pb.GenerateRequest, known: CallContext, *, model: str
) -> InferenceCall:
    """What telemetry may say of a request that is not even valid."""
    is_chat = request.WhichOneof("prompt") == "chat"
    return InferenceCall(
        request_id=known.request_id,
        path=CHAT_PATH if is_chat else COMPLETIONS_PATH,
        body={},
        query=PredictionQuery(text="", prompt_tokens=0, endpoint="generate", model=model),
        operation="chat" if is_chat else "text_completion",
    )


def _timeout_s(context: Call) -> float | None:
    remaining = cast("float | None", context.time_remaining())  # None without a deadline
    if remaining is None:
        return None
    return max(0.0, remaining - min(_DEADLINE_MARGIN_S, remaining / 10))
