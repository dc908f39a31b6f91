"""The way of a request: offer, predict beside the queue, call the engine, account for its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator
from typing import Final

from llmservice_api.queue_view import QueueView
from llmservice_api.sidecar_config import LiveConfig
from llmservice_api.status_report import PredictorReport, QueueReport
from opentelemetry.context import Context

from llmservice_sidecar.core.errors import LLMServiceError, Reason, RequestRejected
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.trust import Sample
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.account import Account, Telemetry
from llmservice_sidecar.runtime.answering import Answering, until
from llmservice_sidecar.runtime.async_gate import AsyncGate, Patience, Ticket
from llmservice_sidecar.runtime.call import Door, InferenceCall, OnQueued, Place, Served
from llmservice_sidecar.runtime.drain import ANNOUNCE_S, Drain
from llmservice_sidecar.runtime.gain import EstimatedGain
from llmservice_sidecar.runtime.limits import Limits
from llmservice_sidecar.runtime.ordering import Ordering
from llmservice_sidecar.runtime.overtakers import Overtakers
from llmservice_sidecar.runtime.ports import Engine, PredictionQuery
from llmservice_sidecar.runtime.predicting import Predicting, model_reports
from llmservice_sidecar.runtime.queue_span import QueueSpan
from llmservice_sidecar.runtime.queue_view import Moment, queue_view

__all__ = ["Door", "InferenceCall", "OnQueued", "Pipeline", "Served"]

_FORESEE_EVERY: Final = 8  # of requests that are not sampled: a prediction of the wait is work


class Pipeline:
    """Serves calls of all doors through one gate. `telemetry.clock` counts from the start."""

    def __init__(
        self,
        *,
        gate: AsyncGate,
        engine: Engine,
        ordering: Ordering,
        predicting: Predicting,
        telemetry: Telemetry,
        announce_s: float = ANNOUNCE_S,
    ) -> None:
        self._gate = gate
        self._answering = Answering(engine=engine, limits=ordering.limits, predicting=predicting)
        self._ordering = ordering
        self._predicting = predicting
        self._telemetry = telemetry
        self._numbers = itertools.count(1)
        self._offers = itertools.count()
        self._ids: set[RequestId] = set()
        self._overtakers = Overtakers()
        self.gain: Final = EstimatedGain(gate, ordering)
        self.drain: Final = Drain(
            in_use=lambda: len(self._ids),
            close=gate.close,
            reopen=gate.reopen,
            announce_s=announce_s,
        )

    @contextlib.asynccontextmanager
    async def serve(
        self,
        call: InferenceCall,
        *,
        door: Door,
        parent: Context | None = None,
        on_queued: OnQueued | None = None,
    ) -> AsyncGenerator[Served]:
        """Wait for a turn and call the engine; the slots are held until the block ends.

        `parent` is the caller's trace context. `on_queued` is awaited once if the call has to wait.
        Raises the errors of `core.errors`.
        """
        account = self._open(call, door=door, parent=parent)
        request_id = self._unique(call.request_id)
        self._ids.add(request_id)
        ended_by: BaseException | None = None
        try:
            async with (
                self._at_gate(account, request_id, on_queued) as ticket,
                until(account),
                self._answering.answer(account, ticket) as exchange,
            ):
                yield exchange
        except BaseException as error:
            ended_by = error
            raise
        finally:
            account.close(ended_by)
            self._ids.discard(request_id)
            self.drain.left()

    def refuse(
        self, call: InferenceCall, error: LLMServiceError, *, door: Door, parent: Context | None
    ) -> None:
        """Account for a call that a door refuses by itself: it never reaches the gate."""
        self._open(call, door=door, parent=parent).close(error)

    async def predict(self, query: PredictionQuery) -> Prediction:
        """What the predictor says of a query, with its fallbacks. Queues nothing."""
        return await self._predicting.predict(query)

    def snapshot(self) -> QueueReport:
        """The gate now."""
        gate, limit = self._gate.state, self._ordering.limits.limit
        return QueueReport(
            policy=self._ordering.configured,
            order=self._ordering.served,
            queued_requests=gate.queued_requests,
            queued_tokens=gate.queued_tokens,
            in_flight_slots=gate.in_flight_slots,
            limit_slots=limit.slots,
            look_ahead_slots=self._ordering.limits.look_ahead_slots,
            backlog_s=self._gate.backlog_s(),
            longest_wait_s=self._gate.longest_wait_s(),
            gamma_per_s=gate.gamma_per_s,
            limit_reason=limit.reason,
        )

    def queue_view(self, rows: int) -> QueueView:
        """The queue one by one: at most `rows` of those who run and of those who wait."""
        moment = Moment(
            now=self._telemetry.clock(), report=self.snapshot(), draining=self.drain.draining
        )
        return queue_view(self._gate.state.outlook, self._ordering, moment, rows=rows)

    def place(self, request_id: RequestId) -> Place | None:
        """Where a request stands; None: none of this id waits here."""
        return self._gate.place(request_id)

    def predictor_report(self) -> PredictorReport:
        """The predictor's state and how well it has ranked."""
        guard = self._ordering.trust.guard
        return PredictorReport(
            mode=self._ordering.mode,
            kind=self._predicting.kind,
            state=self._predicting.state,
            samples=guard.samples,
            calibrated=guard.calibrated,
            tau=guard.tau,
            tau_lower=guard.tau_lower,
            tau_upper=guard.tau_upper,
            estimated_gain_ratio=self.gain.ratio,
            models=model_reports(self._ordering.trust),
        )

    @property
    def limits(self) -> Limits:
        """How many may be in flight, and why."""
        return self._ordering.limits

    def apply_live(self, live: LiveConfig) -> None:
        """Take over a new live configuration; queued requests are ordered anew.

        Raises ValueError naming the field, and changes nothing then.
        """
        self._ordering.apply(live)

    @contextlib.asynccontextmanager
    async def _at_gate(
        self, account: Account, request_id: RequestId, on_queued: OnQueued | None
    ) -> AsyncGenerator[Ticket]:
        request = self._request(account, request_id)
        queue = QueueSpan(account, limits=self.limits, overtakers=self._overtakers)
        ticket = Ticket(
            request=request,
            foresee=next(self._offers) % _FORESEE_EVERY == 0 or queue.sampled,
            watch=queue if queue.recorded else None,
        )
        waiting = True
        # Made before the offer and run after it: the offer does not wait.
        asking = self._ask(account, ticket)
        self._ordering.arrived(request_id)
        try:
            async with (
                self.limits.room_for(request),
                self._gate.admit(ticket, patience=self._patience(account), on_queued=on_queued),
            ):
                waiting = False
                queue.left(ticket, waiting=self._gate.waiting)
                yield ticket
        except RequestRejected:
            if waiting:
                queue.rejected()
            waiting = False
            raise
        finally:
            if waiting:
                queue.left(ticket, waiting=self._gate.waiting)
            if asking is not None:
                asking.cancel()
            self._ordering.ended(request_id, _sample(account, ticket))
            self._learn_gain(account, ticket)

    def _learn_gain(self, account: Account, ticket: Ticket) -> None:
        if ticket.output_tokens is None or account.prediction is None:
            return
        request = ticket.request
        elapsed_s = self._telemetry.clock() - request.arrived_at
        self.gain.served(
            request,
            account.prediction,
            service_s=elapsed_s - ticket.wait_s,
            output_tokens=ticket.output_tokens,
        )

    def _open(self, call: InferenceCall, *, door: Door, parent: Context | None) -> Account:
        account = Account.open(call, self._telemetry, door=door, parent=parent)
        if account.span.is_recording():
            ordering = self._ordering
            account.span.set_attributes(
                {
                    names.ATTR_POLICY: ordering.configured,
                    names.ATTR_ORDER: ordering.served,
                    names.ATTR_TAIL_WEIGHT: ordering.tail_weight,
                }
            )
        return account

    def _ask(self, account: Account, ticket: Ticket) -> asyncio.Task[None] | None:
        if not self._ordering.learning:
            return None

        def arrived(prediction: Prediction) -> None:
            used = prediction
            if account.running_mean and not self._ordering.trust.in_model(account.call.query.model):
                used = account.running_mean
            self._gate.predicted(ticket, used)

        return self._predicting.start(account, then=arrived)

    def _request(self, account: Account, request_id: RequestId) -> Request:
        call = account.call
        priority = self._ordering.priority_of(call.priority)
        account.span.set_attribute(names.ATTR_PRIORITY, priority)
        return Request(
            id=request_id,
            arrived_at=account.started_at,
            prompt_tokens=call.query.prompt_tokens + call.other_prompt_tokens,
            prediction=self._predicting.history.prior(call.query),
            max_tokens=call.query.max_tokens,
            slots=call.slots,
            tenant=call.tenant,
            priority=priority,
            deadline_at=None if call.timeout_s is None else account.started_at + call.timeout_s,
        )

    def _patience(self, account: Account) -> Patience:
        limit_s, timeout_s = account.call.timeout_s, self._ordering.queue_timeout_s
        if limit_s is not None and limit_s <= timeout_s:
            return Patience(wait_s=limit_s, reason=Reason.DEADLINE)
        return Patience(wait_s=timeout_s, reason=Reason.QUEUE_TIMEOUT)

    def _unique(self, request_id: RequestId) -> RequestId:
        # Clients choose ids and retry with the same one; the gate and the engine must not meet two.
        if request_id not in self._ids:
            return request_id
        return RequestId(f"{request_id}-{next(self._numbers)}")


def _sample(account: Account, ticket: Ticket) -> Sample | None:
    """What the end of a request says of its prediction, per answer; None: nothing."""
    said, mean, call = account.prediction, account.running_mean, account.call
    if said is None or mean is None or ticket.output_tokens is None:
        return None
    return Sample(
        model=call.query.model,
        said=said,
        fallback_tokens=mean.output_tokens,
        actual_tokens=ticket.output_tokens / call.slots,
        max_tokens=call.query.max_tokens,
    )
