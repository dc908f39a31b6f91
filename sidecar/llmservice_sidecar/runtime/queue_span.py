"""A request's stay at the gate as a span: offer, re-keys, admission, links to who overtook it."""

from __future__ import annotations

from typing import Final

from llmservice_sidecar.core.decision import Decision, Queued, Rejected, Standing
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.account import Account
from llmservice_sidecar.runtime.async_gate import Ticket
from llmservice_sidecar.runtime.limits import Limits
from llmservice_sidecar.runtime.overtakers import Overtakers
from llmservice_sidecar.runtime.span_attributes import (
    Attributes,
    arrival_attributes,
    limit_attributes,
    place_attributes,
    wait_attributes,
)

MAX_REKEYS: Final = 8  # events on one span; a policy may change any number of times


class QueueSpan:
    """Implements `async_gate.Watch` where the span is recorded; else it only ends it."""

    def __init__(self, account: Account, *, limits: Limits, overtakers: Overtakers) -> None:
        self._account = account
        self._limits = limits
        self._overtakers = overtakers
        self._span = account.child(names.SPAN_QUEUE)
        self._rekeys = 0
        self.recorded: Final = self._span.is_recording()

    @property
    def sampled(self) -> bool:
        """The trace leaves the process for certain."""
        return self._span.get_span_context().trace_flags.sampled

    def offered(self, ticket: Ticket, decision: Decision) -> None:
        """The gate has spoken. Its first word on the request is on this event."""
        attributes: Attributes = {names.ATTR_PREDICTED: ticket.request.prediction.output_tokens}
        if isinstance(decision, Rejected):
            attributes[names.ATTR_DECISION] = "rejected"
            attributes[names.ATTR_REASON] = decision.reason.value
        elif isinstance(decision, Queued):
            attributes[names.ATTR_DECISION] = "queued"
            if ticket.queued is not None:
                attributes |= place_attributes(ticket.queued)
        else:
            attributes[names.ATTR_DECISION] = "admitted"
        self._span.add_event(names.EVENT_OFFER, attributes)

    def moved(self, standing: Standing, prediction: Prediction | None = None) -> None:
        """It has another key: by a late `prediction`, or by another policy for all."""
        if self._rekeys == MAX_REKEYS or not self._span.is_recording():
            return
        self._rekeys += 1
        attributes = place_attributes(standing)
        if prediction is None:
            attributes[names.ATTR_REKEY_CAUSE] = "policy"
        else:
            attributes[names.ATTR_REKEY_CAUSE] = "prediction"
            attributes[names.ATTR_PREDICTED] = prediction.output_tokens
        self._span.add_event(names.EVENT_REKEY, attributes)

    def rejected(self) -> None:
        """It was not taken: no figure of waiting."""
        if self.recorded:
            self._span.set_attributes(limit_attributes(self._limits))
        self._span.end()

    def left(self, ticket: Ticket, *, waiting: int) -> None:
        """The wait is over, by admission or by leaving. `waiting`: so many others wait still."""
        if self.recorded:
            self._describe(ticket)
        self._span.end()
        self._account.left_queue(ticket)
        if not waiting:
            self._overtakers.forget()

    def _describe(self, ticket: Ticket) -> None:
        admitted, span = ticket.admitted, self._span
        attributes = limit_attributes(self._limits)
        attributes[names.ATTR_QUEUE_WAIT_S] = ticket.wait_s
        if ticket.predicted_wait_s is not None:
            attributes[names.ATTR_PREDICTED_WAIT_S] = ticket.predicted_wait_s
        last = admitted or ticket.gave_up or ticket.queued
        first = ticket.queued or admitted
        if last is not None and first is not None:
            attributes |= wait_attributes(last) | arrival_attributes(first)
            for request_id, context in self._overtakers.among(last.overtaken_by_ids):
                span.add_link(context, {names.ATTR_REQUEST_ID: request_id})
        span.set_attributes(attributes)
        if admitted is not None:
            span.add_event(names.EVENT_ADMIT, {names.ATTR_QUEUE_DEPTH: admitted.depth})
            if admitted.overtook:
                self._overtakers.add(ticket.request.id, self._account.span.get_span_context())
