"""Callers that trace what they send and write down how each request ended, as they saw it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import grpc.aio
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from integration.sidecar.running import SidecarProcess
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

CALLER: Final = "load-generator"  # service.name of the callers' own spans
CALL_SPAN: Final = "call"
CHAT: Final = "/v1/chat/completions"
Ending = tuple[Outcome, Reason]
_PROPAGATOR: Final = TraceContextTextMapPropagator()

# What a client can tell from an error's code alone.
_CODES: Final[Mapping[str, Ending]] = {
    "queue_full": (Outcome.REJECTED, Reason.QUEUE_FULL),
    "queued_tokens": (Outcome.REJECTED, Reason.QUEUED_TOKENS),
    "too_large": (Outcome.REJECTED, Reason.TOO_LARGE),
    "deadline_unreachable": (Outcome.REJECTED, Reason.DEADLINE_UNREACHABLE),
    "draining": (Outcome.REJECTED, Reason.DRAINING),
    "queue_share": (Outcome.EVICTED, Reason.QUEUE_SHARE),
    "queue_timeout": (Outcome.EVICTED, Reason.QUEUE_TIMEOUT),  # gRPC's; HTTP has one code for both
    "engine_down": (Outcome.FAILED, Reason.ENGINE_DOWN),
    "engine_error": (Outcome.FAILED, Reason.ENGINE_ERROR),
    "engine_refused": (Outcome.REJECTED, Reason.ENGINE_REFUSED),
}
GONE: Final = (Outcome.CANCELLED, Reason.CLIENT_GONE)
_RAN: Final = "was not complete"  # an answer had begun when the client's own limit ended it


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and how it ended for its client."""

    trace_id: str
    door: str  # the name of the SERVER span
    operation: str
    ending: Ending
    began: bool  # part of an answer was seen


@dataclass
class Ledger:
    """All requests of a load. `endpoint` takes the callers' own spans, by OTLP/gRPC."""

    endpoint: str
    sent: list[Sent] = field(default_factory=list[Sent])

    def __post_init__(self) -> None:
        self._provider = TracerProvider(resource=Resource({"service.name": CALLER}))
        exporter = OTLPSpanExporter(self.endpoint, insecure=True, timeout=30)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(CALLER)

    @property
    def endings(self) -> Counter[Ending]:
        """How many ended in each way."""
        return Counter(one.ending for one in self.sent)

    def flush(self) -> None:
        """Send the spans so far."""
        assert self._provider.force_flush()

    def close(self) -> None:
        """Send the last spans."""
        self._provider.shutdown()

    @contextmanager
    def call(self, door: str, operation: str) -> Generator[Observed]:
        """One request; whoever leaves it before its end has cancelled it."""
        seen = Observed()
        with self._tracer.start_as_current_span(CALL_SPAN, kind=SpanKind.CLIENT) as span:
            _PROPAGATOR.inject(seen.headers)
            try:
                yield seen
            except asyncio.CancelledError:
                seen.ending = GONE
                raise
            finally:
                trace_id = format_trace_id(span.get_span_context().trace_id)
                assert seen.ending is not None, (door, seen)
                self.sent.append(Sent(trace_id, door, operation, seen.ending, seen.began))


@dataclass
class Observed:
    """What a client sees of its request."""

    headers: dict[str, str] = field(default_factory=dict[str, str])
    began: bool = False
    ending: Ending | None = None


@dataclass
class Callers:
    """Clients of one sidecar at both doors."""

    sidecar: SidecarProcess
    ledger: Ledger
    session: aiohttp.ClientSession
    channel: grpc.aio.Channel

    async def http(
        self,
        body: dict[str, Any] | bytes,
        *,
        path: str = CHAT,
        leave: bool = False,
        **headers: str,
    ) -> None:
        """One request over HTTP. `leave`: go at the first bytes of the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        operation = "text_completion" if path == "/v1/completions" else "chat"
        with self.ledger.call(f"POST {path}", operation) as seen:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            sent = {"content-type": "application/json", **named, **seen.headers}
            async with self.session.post(
                f"{self.sidecar.http}{path}", data=data, headers=sent
            ) as response:
                if leave:
                    await response.content.readany()
                    seen.began, seen.ending = True, GONE
                    response.close()
                    return
                text = await response.text()
            seen.ending, seen.began = http_ending(text, timed="x-request-timeout-ms" in named)

    async def grpc(self, request: pb.GenerateRequest, *, leave: str = "") -> None:
        """One request over gRPC. `leave`: go at the first "queued" or "delta"."""
        stub: Any = InferenceServiceStub(self.channel)
        operation = "chat" if request.WhichOneof("prompt") == "chat" else "text_completion"
        with self.ledger.call(
            "llmservice.inference.v1alpha1.InferenceService/Generate", operation
        ) as seen:
            call = stub.Generate(request, metadata=tuple(seen.headers.items()))
            finish = ""
            try:
                async for event in call:
                    kind = event.WhichOneof("event")
                    seen.began |= kind == "delta"
                    finish = event.delta.finish_reason or finish
                    if kind == leave:
                        call.cancel()
                        seen.ending = GONE
                        return
            except grpc.aio.AioRpcError as error:
                seen.ending = grpc_ending(error)
                return
            seen.ending = (Outcome.COMPLETED, Reason(finish))


def http_ending(text: str, *, timed: bool) -> tuple[Ending, bool]:
    """How an answer of the OpenAI door ended, and whether part of it came."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    parts: list[dict[str, Any]] = [json.loads(line) for line in (lines or [text])]
    began = any(part.get("choices") or "output" in part for part in parts)
    errors = [part["error"] for part in parts if part.get("error")]
    if errors:
        return _of_error(errors[0], timed=timed), began
    reasons: list[Any] = [
        choice["finish_reason"] for part in parts for choice in part.get("choices", ())
    ]
    return (Outcome.COMPLETED, Reason(next(one for one in reasons if one))), began


def _of_error(error: dict[str, Any], *, timed: bool) -> Ending:
    code, message = error["code"], error["message"]
    if code == "deadline_exceeded":
        if _RAN in message:
            return Outcome.CANCELLED, Reason.DEADLINE
        return Outcome.EVICTED, Reason.DEADLINE if timed else Reason.QUEUE_TIMEOUT
    if code in _CODES:
        return _CODES[code]
    # The sidecar's own words of a bad request; the engine's code is a number.
    invalid = isinstance(code, str)
    return _invalid() if invalid else _CODES["engine_refused"]


def _invalid() -> Ending:
    return Outcome.REJECTED, Reason.INVALID


def grpc_ending(error: grpc.aio.AioRpcError) -> Ending:
    """The same for a status: its details carry the reason."""
    trailers = dict(error.trailing_metadata() or ())
    status, info = Status(), ErrorInfo()
    details = trailers["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status.ParseFromString(details)
    assert status.details[0].Unpack(info)
    code = info.reason.lower()
    return _invalid() if code == Reason.INVALID.value else _CODES[code]
