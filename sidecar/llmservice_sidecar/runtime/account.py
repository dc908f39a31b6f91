"""One request's account: its spans, its metrics and its one terminal outcome. Decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

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
from llmservice_sidecar.runtime.ports import RequestEnd, RequestMetrics, Tracer
from llmservice_sidecar.runtime.span_attributes import Attributes, prediction_attributes
from llmservice_sidecar.runtime.stream_pace import StreamPace
from llmservice_sidecar.runtime.tail_rule import HEAD, TailRule, is_fault

_OUTCOMES: Final[Mapping[type[LLMServiceError], Outcome]] = {
    RequestEvicted: Outcome.EVICTED,
    DeadlineExceeded: Outcome.CANCELLED,  # it ran, and the client's own limit ended it
    EngineError: Outcome.FAILED,
}
_SAMPLING: Final = {
    "temperature": names.ATTR_GEN_AI_TEMPERATURE,
    "top_p": names.ATTR_GEN_AI_TOP_P,
}


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where accounts go, and which of them are kept at their end."""

    tracer: Tracer
    metrics: RequestMetrics
    clock: Callable[[], float]
    tail: TailRule = field(default_factory=TailRule)


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
    last_token_at: float | None = None
    sampled_by: str | None = None  # who keeps the trace; None: nobody, or it has not ended
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
        """For exemplars: the trace's id if it is kept, as far as that is known yet."""
        context = self.span.get_span_context()
        kept = context.trace_flags.sampled or self.sampled_by is not None
        return trace.format_trace_id(context.trace_id) if kept else None

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
            self.client.add_event(names.EVENT_FIRST_TOKEN)

    def last_token(self) -> None:
        """The answer is complete; whatever the client has still to take."""
        if self.last_token_at is not None:
            return
        self.last_token_at = self.telemetry.clock()
        if self.client is not None and self.client.is_recording():
            self.client.add_event(names.EVENT_LAST_TOKEN)

    def left_queue(self, ticket: Ticket) -> None:
        """The wait is over, by admission or by leaving."""
        self.telemetry.metrics.left_queue(
            wait_s=ticket.wait_s,
            predicted_wait_s=None if ticket.admitted is None else ticket.predicted_wait_s,
            trace_id=self.trace_id,
        )

    def open_client(self, span: Span) -> None:
        """Say on the CLIENT span what the engine is asked for, now."""
        self.client, self.called_at = span, self.telemetry.clock()
        if not span.is_recording():
            return
        body, call = self.call.body, self.call
        attributes: Attributes = {
            names.ATTR_GEN_AI_OPERATION: call.operation,
            names.ATTR_GEN_AI_PROVIDER: names.PROVIDER,
            names.ATTR_GEN_AI_MODEL: call.query.model,
            names.ATTR_GEN_AI_STREAM: call.stream,
            names.ATTR_GEN_AI_CHOICES: call.slots,
        }
        if call.query.max_tokens is not None:
            attributes[names.ATTR_GEN_AI_MAX_TOKENS] = call.query.max_tokens
        for field_name, attribute in _SAMPLING.items():
            value = body.get(field_name)
            if isinstance(value, int | float):
                attributes[attribute] = value
        span.set_attributes(attributes)

    def close_client(self, span: Span, error: BaseException | None) -> None:
        """End the CLIENT span with what the engine has answered."""
        if span.is_recording():
            span.set_attributes(self._answer_attributes(error))
            if isinstance(error, EngineError):
                span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end()

    def _answer_attributes(self, error: BaseException | None) -> Attributes:
        attributes: Attributes = {}
        if self.usage is not None:
            attributes[names.ATTR_GEN_AI_INPUT_TOKENS] = self.usage.input_tokens
            attributes[names.ATTR_GEN_AI_OUTPUT_TOKENS] = self.usage.output_tokens
        if self.first_token_at is not None:
            since_s = self.first_token_at - self.called_at
            attributes[names.ATTR_GEN_AI_TIME_TO_FIRST_CHUNK] = since_s
            if self.stream_pace is not None:
                attributes[names.ATTR_LONGEST_GAP_S] = self.stream_pace.longest_gap_s
                attributes[names.ATTR_CLIENT_STALL_S] = self.stream_pace.client_stall_s
        if self.complete:
            attributes[names.ATTR_GEN_AI_FINISH_REASONS] = (self.reason.value,)
        if isinstance(error, EngineRefused):
            attributes[names.ATTR_HTTP_STATUS] = error.status
        if isinstance(error, EngineError):
            attributes[names.ATTR_ERROR_TYPE] = error.reason.value
        return attributes

    def close(self, error: BaseException | None) -> None:
        """The request ended, with `error` or well: write the outcome. A second call is ignored."""
        if self._closed:
            return
        self._closed = True
        outcome, reason = self._ending(error)
        now = self.telemetry.clock()
        found = self.telemetry.tail.judge(outcome, reason, duration_s=now - self.started_at)
        if self.span.is_recording():
            sampled = self.span.get_span_context().trace_flags.sampled
            self.sampled_by = HEAD if sampled else found
            self._describe(outcome, reason, error)
        self.span.end()
        self.telemetry.metrics.finished(self._end(outcome, reason, now=now))

    def _ending(self, error: BaseException | None) -> tuple[Outcome, Reason]:
        if error is None:
            if self.complete:
                return Outcome.COMPLETED, self.reason
            if self.reason is Reason.ENGINE_ERROR:
                return Outcome.FAILED, self.reason  # told inside the stream, and passed on there
            return Outcome.CANCELLED, Reason.CLIENT_GONE  # the door stopped reading
        return ending_of(error)

    def _describe(self, outcome: Outcome, reason: Reason, error: BaseException | None) -> None:
        span, said = self.span, self.prediction
        attributes: Attributes = {} if said is None else prediction_attributes(said)
        attributes[names.ATTR_OUTCOME] = outcome.value
        attributes[names.ATTR_REASON] = reason.value
        if self.sampled_by is not None:
            attributes[names.ATTR_SAMPLED_BY] = self.sampled_by
        if self.usage is not None:
            # Per answer, as the prediction is.
            actual = round(self.usage.output_tokens / self.call.slots)
            attributes[names.ATTR_ACTUAL] = actual
            if self.complete and said is not None:
                attributes[names.ATTR_WITHIN_P90] = actual <= said.p90_tokens
                attributes[names.ATTR_ERROR_RATIO] = said.output_tokens / max(actual, 1)
        if isinstance(error, AdmissionError) and error.retry_after_s is not None:
            attributes[names.ATTR_RETRY_AFTER_S] = error.retry_after_s
        if is_fault(outcome, reason):
            attributes[names.ATTR_ERROR_TYPE] = reason.value
            text = str(error) if isinstance(error, LLMServiceError) else type(error).__name__
            span.set_status(Status(StatusCode.ERROR, text))
        span.set_attributes(attributes)

    def _end(self, outcome: Outcome, reason: Reason, *, now: float) -> RequestEnd:
        first, usage = self.first_token_at, self.usage
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
        if error.reason is Reason.ENGINE_REFUSED:  # the client's fault, as what a door refuses
            return Outcome.REJECTED, error.reason
        for kind, outcome in _OUTCOMES.items():
            if isinstance(error, kind):
                return outcome, error.reason
        return Outcome.REJECTED, error.reason  # refused by a door: invalid
    # A broken connection to the engine is an EngineError: this one is the client's.
    if isinstance(error, asyncio.CancelledError | GeneratorExit | ConnectionError):
        return Outcome.CANCELLED, Reason.CLIENT_GONE
    return Outcome.FAILED, Reason.INTERNAL
