"""An admitted call at the engine: what is sent, when it is given up, what its end teaches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator
from typing import Any, Final, cast

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llmservice_sidecar.core.errors import DeadlineExceeded, EngineRefused, Reason
from llmservice_sidecar.runtime.account import Account
from llmservice_sidecar.runtime.async_gate import Ticket
from llmservice_sidecar.runtime.exchange import Exchange
from llmservice_sidecar.runtime.limits import Limits
from llmservice_sidecar.runtime.ports import Engine, EngineCall, EngineResponse
from llmservice_sidecar.runtime.predicting import Predicting

_MAX_INT64: Final = 2**63 - 1
_RESPONSES: Final = "/v1/responses"
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Answering:
    """Asks the engine for one answer at a time per caller."""

    def __init__(self, *, engine: Engine, limits: Limits, predicting: Predicting) -> None:
        self._engine = engine
        self._limits = limits
        self._predicting = predicting

    @contextlib.asynccontextmanager
    async def answer(self, account: Account, ticket: Ticket) -> AsyncGenerator[Exchange]:
        """Post the call; leaving the block aborts what is not complete and settles the ticket."""
        call = account.call
        span = account.child(f"{call.operation} {call.query.model}", kind=SpanKind.CLIENT)
        exchange: Exchange | None = None
        ended_by: BaseException | None = None
        pace = self._limits.start(ticket.request)
        try:
            async with self._engine.post(_engine_call(account, ticket, span)) as response:
                await _refuse_all_but_200(response)
                exchange = Exchange(
                    response,
                    account,
                    ticket,
                    pace=pace,
                    history=self._predicting.history,
                )
                yield exchange
        except BaseException as error:
            ended_by = error
            raise
        finally:
            self._settle(account, ticket, exchange)
            pace.end(account.usage if account.complete else None, prediction=account.prediction)
            account.close_client(span, ended_by)

    def _settle(self, account: Account, ticket: Ticket, exchange: Exchange | None) -> None:
        """Before the slot is freed: what the answer teaches the gate and the predictor."""
        tokens = 0 if exchange is None else exchange.generated
        complete = account.complete and account.usage is not None
        ticket.output_tokens = tokens if complete else None
        if exchange is not None:
            self._predicting.observe(
                account, output_tokens=tokens, events=exchange.events, complete=complete
            )


def priority(key_s: float) -> int:
    """The engine's `priority` for a key in seconds: an int64, smaller runs first."""
    return min(max(math.floor(key_s * 1000), -_MAX_INT64), _MAX_INT64)


@contextlib.asynccontextmanager
async def until(account: Account) -> AsyncGenerator[None]:
    """End the block when the client's deadline has passed, with DeadlineExceeded."""
    timeout_s = account.call.timeout_s
    if timeout_s is None:
        yield
        return
    left_s = timeout_s - (account.telemetry.clock() - account.started_at)
    limit = asyncio.timeout(max(left_s, 0.0))
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        text = f"the answer was not complete within the deadline of {timeout_s:g} s"
        raise DeadlineExceeded(Reason.DEADLINE, text) from error


def _engine_call(account: Account, ticket: Ticket, span: Span) -> EngineCall:
    call = account.call
    assert ticket.admitted is not None
    body: dict[str, object] = {**call.body, "priority": priority(ticket.admitted.key[0])}
    if call.stream and call.path != _RESPONSES:
        options = cast("dict[str, Any]", body.get("stream_options") or {})
        body["stream_options"] = {**options, "include_usage": True}
    headers = {"content-type": "application/json", "x-request-id": str(ticket.request.id)}
    _PROPAGATOR.inject(headers, context=trace.set_span_in_context(span, account.context))
    account.open_client(span)
    data = json.dumps(body, separators=(",", ":")).encode()
    return EngineCall(path=call.path, body=data, headers=headers)


async def _refuse_all_but_200(response: EngineResponse) -> None:
    if response.status != 200:
        body = b"".join([part async for part in response.chunks()])
        raise EngineRefused(response.status, body, response.content_type)
