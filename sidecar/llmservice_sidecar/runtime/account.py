"""One request's account: its spans, its metrics and its one terminal outcome. Decides nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.errors import (
    AdmissionError,
    DeadlineExceeded,
    EngineError,
    EngineRefused,
    LLMServiceError,
    Reason,
    RequestEvicted,
)
from llmservice_sidecar.core.request import Outcome, Prediction
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.answer import Usage
from llmservice_sidecar.runtime.async_gate import Ticket
from llmservice_sidecar.runtime.call import Door, InferenceCall
from llmservice_sidecar.runtime.ports import RequestEnd, RequestMetrics
from llmservice_sidecar.runtime.stream_pace import StreamPace

_OUTCOMES: Final[Mapping[type[LLMServiceError], Outcome]] = {
    RequestEvicted: Outcome.EVICTED,
    DeadlineExceeded: Outcome.CANCELLED,  # it ran, and the client's own limit ended it
    EngineError: Outcome.FAILED,
}
_SAMPLING: Final = {
    "temperature": names.ATTR_GEN_AI_TEMPERATURE,
    "top_p": names.ATTR_GEN_AI_TOP_P,
}
_FAULTS: Final = frozenset({Outcome.FAILED, Outcome.EVICTED})


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where accounts go."""

    tracer: Tracer
    metrics: RequestMetrics
    clock: Callable[[], float]


@dataclass(slots=True, kw_only=True)
class Account:
    """What is known of one request while it is served. `close` says how it ended, once."""

    call: InferenceCall
    telemetry: Telemetry
    span: Span
    context: Context
    started_at: float
    prediction: Prediction | None = None  # of the predictor; None while only the prior is known
    running_mean: Prediction | None = None  # of such requests, when the predictor was asked
    usage: Usage | None = None
    client: Span | None = None  # the engine call's span, once there is a call
    called_at: float = 0.0  # the engine
    first_token_at: float | None = None
    stream_pace: StreamPace | None = None  # once the engine answers
    reason: Reason = Reason.STOP
    complete: bool = False  # the engine's answer has come to its end
    _closed: bool = field(default=False)

    @classmethod
    def open(
        cls, call: InferenceCall, telemetry: Telemetry, *, door: Door, parent: Context | None
    ) -> Account:
        """Start the SERVER span. `parent` is the caller's trace context."""
        base = Context() if parent is None else parent
        span = telemetry.tracer.start_span(door.name, context=base, kind=SpanKind.SERVER)
        if span.is_recording():
            span.set_attributes(
                {
                    names.ATTR_REQUEST_ID: call.request_id,
                    names.ATTR_DOOR: door.kind,
                    names.ATTR_SLOTS: call.slots,
                    names.ATTR_PROMPT_TOKENS: call.query.prompt_tokens,
                    **({names.ATTR_TENANT: call.tenant} if call.tenant else {}),
                    **({names.ATTR_TIMEOUT_S: call.timeout_s} if call.timeout_s else {}),
                }
            )
        return cls(
            call=call,
            telemetry=telemetry,
            span=span,
            context=trace.set_span_in_context(span, base),
            started_at=telemetry.clock(),
        )

    @property
    def trace_id(self) -> str | None:
        """For exemplars: the trace's id if it is sampled."""
        context = self.span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else None

    def child(self, name: str, *, kind: SpanKind = SpanKind.INTERNAL) -> Span:
        """Start a span under the request's."""
        return self.telemetry.tracer.start_span(name, context=self.context, kind=kind)

    def predicted(self, prediction: Prediction, *, duration_s: float) -> None:
        """The predictor has spoken."""
        self.prediction = prediction
        self.telemetry.metrics.predicted(source=prediction.source, duration_s=duration_s)

    def first_token(self) -> None:
        """The first bytes of a streamed answer are here."""
        self.first_token_at = self.telemetry.clock()
        if self.client is not None and self.client.is_recording():
            since_s = self.first_token_at - self.called_at
            self.client.add_event(names.EVENT_FIRST_TOKEN)
            self.client.set_attribute(names.ATTR_GEN_AI_TIME_TO_FIRST_CHUNK, since_s)

    def left_queue(self, span: Span, ticket: Ticket) -> None:
        """The wait is over, by admission or by leaving."""
        standing, expected_s = ticket.admitted, ticket.predicted_wait_s
        if span.is_recording():
            span.set_attribute(names.ATTR_QUEUE_WAIT_S, ticket.wait_s)
            if expected_s is not None:
                span.set_attribute(names.ATTR_PREDICTED_WAIT_S, expected_s)
            if ticket.queued is not None:
                span.set_attributes(_bound_attributes(ticket.queued))
            if standing is not None:
                span.set_attributes(standing_attributes(standing))
        span.end()
        self.telemetry.metrics.left_queue(
            wait_s=ticket.wait_s,
            predicted_wait_s=None if standing is None else expected_s,
            trace_id=self.trace_id,
        )

    def open_client(self, span: Span) -> None:
        """Say on the CLIENT span what the engine is asked for, now."""
        self.client, self.called_at = span, self.telemetry.clock()
        if not span.is_recording():
            return
        body, call = self.call.body, self.call
        span.set_attributes(
            {
                names.ATTR_GEN_AI_OPERATION: call.operation,
                names.ATTR_GEN_AI_PROVIDER: names.PROVIDER,
                names.ATTR_GEN_AI_MODEL: call.query.model,
                names.ATTR_GEN_AI_STREAM: call.stream,
                names.ATTR_GEN_AI_CHOICES: call.slots,
            }
        )
        if call.query.max_tokens is not None:
            span.set_attribute(names.ATTR_GEN_AI_MAX_TOKENS, call.query.max_tokens)
        for field_name, attribute in _SAMPLING.items():
            value = body.get(field_name)
            if isinstance(value, int | float):
                span.set_attribute(attribute, value)

    def close_client(self, span: Span, error: BaseException | None) -> None:
        """End the CLIENT span with what the engine has answered."""
        if span.is_recording():
            if self.usage is not None:
                span.set_attribute(names.ATTR_GEN_AI_INPUT_TOKENS, self.usage.input_tokens)
                span.set_attribute(names.ATTR_GEN_AI_OUTPUT_TOKENS, self.usage.output_tokens)
            if self.first_token_at is not None and self.stream_pace is not None:
                pace = self.stream_pace
                span.set_attribute(names.ATTR_LONGEST_GAP_S, pace.longest_gap_s)
                span.set_attribute(names.ATTR_CLIENT_STALL_S, pace.client_stall_s)
            if self.complete:
                span.set_attribute(names.ATTR_GEN_AI_FINISH_REASONS, (self.reason.value,))
            if isinstance(error, EngineRefused):
                span.set_attribute(names.ATTR_HTTP_STATUS, error.status)
            if isinstance(error, EngineError):
                span.set_attribute(names.ATTR_ERROR_TYPE, error.reason.value)
                span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end()

    def close(self, error: BaseException | None) -> None:
        """The request ended, with `error` or well: write the outcome. A second call is ignored."""
        if self._closed:
            return
        self._closed = True
        outcome, reason = self._ending(error)
        if self.span.is_recording():
            self._describe(outcome, reason, error)
        self.span.end()
        self.telemetry.metrics.finished(self._end(outcome, reason))

    def _ending(self, error: BaseException | None) -> tuple[Outcome, Reason]:
        if error is None:
            if self.complete:
                return Outcome.COMPLETED, self.reason
            if self.reason is Reason.ENGINE_ERROR:
                return Outcome.FAILED, self.reason  # told inside the stream, and passed on there
            return Outcome.CANCELLED, Reason.CLIENT_GONE  # the door stopped reading
        return ending_of(error)

    def _describe(self, outcome: Outcome, reason: Reason, error: BaseException | None) -> None:
        span = self.span
        span.set_attribute(names.ATTR_OUTCOME, outcome.value)
        span.set_attribute(names.ATTR_REASON, reason.value)
        if self.prediction is not None:
            span.set_attributes(prediction_attributes(self.prediction))
        if self.usage is not None:
            # Per answer, as the prediction is.
            actual = round(self.usage.output_tokens / self.call.slots)
            span.set_attribute(names.ATTR_ACTUAL, actual)
            if self.complete and self.prediction is not None:
                span.set_attribute(names.ATTR_WITHIN_P90, actual <= self.prediction.p90_tokens)
        if isinstance(error, AdmissionError) and error.retry_after_s is not None:
            span.set_attribute(names.ATTR_RETRY_AFTER_S, error.retry_after_s)
        if outcome in _FAULTS or reason is Reason.DRAINING:
            span.set_attribute(names.ATTR_ERROR_TYPE, reason.value)
            text = str(error) if isinstance(error, LLMServiceError) else type(error).__name__
            span.set_status(Status(StatusCode.ERROR, text))

    def _end(self, outcome: Outcome, reason: Reason) -> RequestEnd:
        first = self.first_token_at
        usage, now = self.usage, self.telemetry.clock()
        return RequestEnd(
            outcome=outcome,
            reason=reason,
            operation=self.call.operation,
            model=self.call.query.model,
            duration_s=now - self.started_at,
            service_s=None if self.client is None else now - self.called_at,
            first_token_s=None if first is None else first - self.started_at,
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            predicted_tokens=(
                None if self.prediction is None else self.prediction.output_tokens * self.call.slots
            ),
            trace_id=self.trace_id,
        )


def ending_of(error: BaseException) -> tuple[Outcome, Reason]:
    """The outcome and reason that an error means."""
    if isinstance(error, LLMServiceError):
        for kind, outcome in _OUTCOMES.items():
            if isinstance(error, kind):
                return outcome, error.reason
        return Outcome.REJECTED, error.reason  # refused by a door: invalid
    # A broken connection to the engine is an EngineError: this one is the client's.
    if isinstance(error, asyncio.CancelledError | GeneratorExit | ConnectionError):
        return Outcome.CANCELLED, Reason.CLIENT_GONE
    return Outcome.FAILED, Reason.INTERNAL


def prediction_attributes(prediction: Prediction) -> dict[str, str | float]:
    """A prediction as span attributes."""
    attributes: dict[str, str | float] = {
        names.ATTR_PREDICTED: prediction.output_tokens,
        names.ATTR_PREDICTED_P90: prediction.p90_tokens,
        names.ATTR_PREDICTION_SOURCE: prediction.source,
    }
    if prediction.p50_tokens is not None:
        attributes[names.ATTR_PREDICTED_P50] = prediction.p50_tokens
    return attributes


def _bound_attributes(standing: Standing) -> dict[str, float]:
    """How long later arrivals may overtake; nothing where nothing is promised."""
    bound_s = standing.overtaking_bound_s
    if bound_s is None or not math.isfinite(bound_s):
        return {}
    return {names.ATTR_OVERTAKING_BOUND_S: bound_s}


def standing_attributes(
    standing: Standing,
) -> dict[str, int | float | tuple[str, ...] | tuple[float, ...]]:
    """A standing as span attributes."""
    return {
        names.ATTR_KEY: standing.key[0],
        names.ATTR_QUEUE_POSITION: standing.position,
        names.ATTR_QUEUE_DEPTH: standing.depth,
        names.ATTR_GAMMA: standing.gamma_per_s,
        names.ATTR_OVERTOOK: standing.overtook,
        names.ATTR_OVERTAKEN_BY: standing.overtaken_by,
        names.ATTR_OVERTAKEN_BY_IDS: standing.overtaken_by_ids,
    }
