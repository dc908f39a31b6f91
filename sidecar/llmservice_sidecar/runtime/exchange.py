"""The engine's answer on its way to the client: forwarded as it comes, metered beside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from llmservice_sidecar.core.errors import EngineError, Reason
from llmservice_sidecar.runtime.account import Account
from llmservice_sidecar.runtime.answer import StreamMeter, read_whole
from llmservice_sidecar.runtime.async_gate import Ticket
from llmservice_sidecar.runtime.history import History
from llmservice_sidecar.runtime.limits import Pace
from llmservice_sidecar.runtime.ports import EngineResponse
from llmservice_sidecar.runtime.stream_pace import StreamPace

EVENT_STREAM: Final = "text/event-stream"
_PROGRESS_EVENTS: Final = 16  # the gate's forecast needs no finer steps, and each costs time


class Exchange:
    """Implements `Served` for one engine response."""

    def __init__(
        self,
        response: EngineResponse,
        account: Account,
        ticket: Ticket,
        *,
        pace: Pace,
        history: History,
    ) -> None:
        self._response = response
        self._account = account
        self._ticket = ticket
        self._pace = pace
        self._tokens_per_event = history.tokens_per_event
        self._meter = StreamMeter(keep_usage=account.call.include_usage)
        self._next_progress: int = 1
        account.stream_pace = self._watch = StreamPace(account.telemetry.clock)

    @property
    def queue_wait_s(self) -> float:
        """Seconds between arrival and admission."""
        return self._ticket.wait_s

    @property
    def status(self) -> int:
        """The engine's HTTP status, always 200 here."""
        return self._response.status

    @property
    def content_type(self) -> str:
        """The engine's content type."""
        return self._response.content_type

    @property
    def events(self) -> int:
        """Stream events so far; 0 for an answer in one piece."""
        return self._meter.events

    @property
    def generated(self) -> int:
        """Output tokens so far over all choices: the engine's count, else an estimate."""
        usage = self._account.usage
        if usage is not None:
            return usage.output_tokens
        return int(self._meter.events * self._tokens_per_event)

    def chunks(self) -> AsyncIterator[bytes]:
        """The answer's bytes as they came."""
        if self.content_type.startswith(EVENT_STREAM):
            return self._stream()
        return self._whole()

    async def _stream(self) -> AsyncIterator[bytes]:
        meter, watch = self._meter, self._watch
        async for chunk in self._response.chunks():
            watch.came()
            passed = meter.feed(chunk)
            if meter.done and meter.usage is not None:  # an error's stream ends without a usage
                self._account.last_token()
            if meter.events >= self._next_progress:
                self._progress()
            if passed:
                yield passed
            if meter.events:
                watch.asks()
        watch.came()  # the end: what is left to be written waits for the client alone
        if rest := meter.rest():
            yield rest
        self._finish_stream()

    async def _whole(self) -> AsyncIterator[bytes]:
        parts = [part async for part in self._response.chunks()]
        self._account.last_token()
        body = b"".join(parts)
        answer = read_whole(body)
        self._account.usage = answer.usage
        self._account.reason = answer.reason
        self._account.complete = True
        yield body

    def _progress(self) -> None:
        if self._account.first_token_at is None:
            self._account.first_token()
            self._pace.first_token(max(self.generated, 1))
        else:
            self._pace.progress(self.generated)
        self._next_progress = self._meter.events + _PROGRESS_EVENTS

    def _finish_stream(self) -> None:
        account, meter = self._account, self._meter
        account.usage = meter.usage
        account.reason = meter.reason
        if not meter.done:
            raise EngineError(Reason.ENGINE_ERROR, "the engine ended the stream before its end")
        if meter.usage is None:
            # vLLM tells an error inside the stream and then ends it as usual, without the usage.
            account.reason = Reason.ENGINE_ERROR
            return
        account.complete = True
