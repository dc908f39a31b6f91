"""How many slots may be in flight now, and why: the smallest of all bounds, plus the look-ahead.

Fed by the answers as they come, a few times each and never per token; calls the gate's `resize`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Final

from llmservice_api.sidecar_config import LiveConfig

from llmservice_sidecar.core.admission.kv_forecast import KvForecast
from llmservice_sidecar.core.limits import TimePerOutputTokenLimit
from llmservice_sidecar.core.look_ahead import LookAhead
from llmservice_sidecar.core.request import Prediction, Request
from llmservice_sidecar.core.step_costs import StepCosts
from llmservice_sidecar.runtime.answer import Usage
from llmservice_sidecar.runtime.async_gate import AsyncGate

SLOTS: Final = "slots"
MAX_CONCURRENCY: Final = "max_concurrency"
TIME_PER_OUTPUT_TOKEN: Final = "time_per_output_token"  # noqa: S105 - a label, not a password
KV_CACHE: Final = "kv_cache"

LOOK_AHEAD_PERIOD_S: Final = 1.0
# A stretch of fewer tokens is more latency of chunks than speed of the engine.
_MIN_TOKENS: Final = 8


@dataclass(frozen=True, slots=True)
class Limit:
    """So many slots may be in flight, because of `reason`."""

    slots: int
    reason: str


class Limits:
    """Keeps the gate at min(slots or max_concurrency, time per output token) + look-ahead.

    The KV forecast is a rule of the gate itself: it depends on who comes next. `notice_delay_s` is
    how long a slot that falls free at the engine stays empty unnoticed; 0 where nobody can tell.
    """

    def __init__(
        self,
        gate: AsyncGate,
        *,
        slots: int,
        kv_forecast: KvForecast,
        clock: Callable[[], float],
        notice_delay_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._gate = gate
        self._slots = slots
        self._kv = kv_forecast
        self._clock = clock
        self._notice_delay_s = notice_delay_s
        self._bound = slots
        self._wide: Counter[int] = Counter()  # requests here that want several slots, by how many
        self._token_time = TimePerOutputTokenLimit(slots=slots, costs=StepCosts())
        self._look_ahead = LookAhead()
        self._ahead = 0
        self._looked_at = clock()
        self._in_flight = 0
        self._area = 0.0  # the integral of what was in flight
        self._area_at = clock()

    @property
    def limit(self) -> Limit:
        """How many may be in flight now, and what says so."""
        gate = self._gate.state
        in_flight = gate.in_flight_slots
        if self._kv.blocked and gate.queued_requests and in_flight < gate.limit_slots:
            return Limit(in_flight, KV_CACHE)
        if self._token_time.limit_slots < self._bound:
            return Limit(gate.limit_slots, TIME_PER_OUTPUT_TOKEN)
        if self._bound < self._slots:
            return Limit(gate.limit_slots, MAX_CONCURRENCY)
        return Limit(gate.limit_slots, SLOTS)

    @property
    def admitted_slots(self) -> int:
        """Slots of the requests that the gate has admitted and that have not left."""
        return self._gate.state.in_flight_slots

    @property
    def in_flight_slots(self) -> int:
        """Slots of the requests that the engine has now."""
        return self._in_flight

    @property
    def look_ahead_slots(self) -> int:
        """Slots of the limit that are there only so that none stands empty unnoticed."""
        return self._ahead

    @property
    def token_s(self) -> float | None:
        """Seconds per output token that the engine takes now; None before it was seen."""
        return self._token_time.token_s

    def apply(self, live: LiveConfig) -> None:
        """Take over a new configuration."""
        self._bound = min(self._slots, live.max_concurrency or self._slots)
        self._token_time.aim(live.target_tpot_s)
        self._resize()

    @contextlib.asynccontextmanager
    async def room_for(self, request: Request) -> AsyncGenerator[None]:
        """While the block lasts, no target makes the limit smaller than the request is wide.

        Else a target would refuse what the configured slots can serve.
        """
        if request.slots == 1:  # there is always room for one
            yield
            return
        self._wide[request.slots] += 1
        self._resize()
        try:
            yield
        finally:
            self._wide[request.slots] -= 1
            self._wide += Counter()  # drops what has come to zero
            self._resize()

    def kv_capacity(self, tokens: int | None) -> None:
        """The engine has told how many tokens its KV cache holds; None: it has not."""
        self._kv.capacity_tokens = tokens
        # What was blocked may fit now.
        self._gate.resize(self._gate.state.limit_slots)

    def start(self, request: Request) -> Pace:
        """The engine gets a request. Whoever calls must `end` the pace, however it ends."""
        self._change(request.slots)
        return Pace(self, self._gate, request)

    def mark(self) -> tuple[float, float]:
        """Now, and the integral of the number in flight up to now."""
        now = self._clock()
        self._area += self._in_flight * (now - self._area_at)
        self._area_at = now
        return now, self._area

    def took(self, token_s: float, *, in_flight: float) -> None:
        """A stretch of an answer took `token_s` a token with so many in flight."""
        before = self._token_time.limit_slots
        if self._token_time.observe(token_s, in_flight=in_flight) != before:
            self._resize()

    def first_token_took(self, seconds: float, *, prefill_tokens: int) -> None:
        """From the call to the first token."""
        self._token_time.costs.observe_first_token(seconds, prefill_tokens=prefill_tokens)

    def prefill_s(self, tokens: int) -> float:
        """What a prompt of so many tokens takes; 0 while that is not known."""
        return tokens * (self._token_time.costs.s_per_prefill_token or 0.0)

    def ended(self, request: Request, output_tokens: int | None) -> None:
        """The engine is rid of a request. `output_tokens` only of a complete answer."""
        self._change(-request.slots)
        if output_tokens is not None:
            self._kv.observe(request, output_tokens=output_tokens)
        now = self._clock()
        self._look_ahead.completed(now=now)
        if now - self._looked_at >= LOOK_AHEAD_PERIOD_S:
            self._looked_at = now
            ahead = self._look_ahead.slots(notice_delay_s=self._notice_delay_s(), now=now)
            if ahead != self._ahead:
                self._ahead = ahead
                self._resize()

    def _change(self, slots: int) -> None:
        self.mark()
        self._in_flight += slots

    def _resize(self) -> None:
        timely = max(self._token_time.limit_slots, *self._wide, 1)
        limit = min(self._bound, timely) + self._ahead
        if limit != self._gate.state.limit_slots:
            self._gate.resize(limit)


class Pace:
    """How one answer comes along: tells the gate its progress, and the limits what it took."""

    def __init__(self, limits: Limits, gate: AsyncGate, request: Request) -> None:
        self._limits = limits
        self._gate = gate
        self._request = request
        self._tokens = 0
        self._at, self._area = limits.mark()
        self._called_at = self._at
        self._first_token_at: float | None = None

    def first_token(self, tokens: int) -> None:
        """The first tokens are here."""
        self._gate.generated(self._request.id, tokens)
        self._tokens = tokens
        self._at, self._area = self._limits.mark()
        self._first_token_at = self._at

    def progress(self, tokens: int) -> None:
        """So many tokens by now."""
        self._gate.generated(self._request.id, tokens)
        self._stretch(tokens)

    def end(self, usage: Usage | None, *, prediction: Prediction | None) -> None:
        """It is over, with the engine's own counts if the answer is complete; `prediction` of it.

        To be called exactly once.
        """
        request = self._request
        if prediction is not None:
            request = replace(request, prediction=prediction)
        if usage is not None:
            if self._first_token_at is None:  # in one piece: the prompt's time is in it
                prefill_s = self._limits.prefill_s(usage.input_tokens)
                self._stretch(usage.output_tokens, prefill_s=prefill_s)
            else:
                self._stretch(usage.output_tokens)
                waited_s = self._first_token_at - self._called_at
                self._limits.first_token_took(waited_s, prefill_tokens=usage.input_tokens)
        self._limits.ended(request, None if usage is None else usage.output_tokens)

    def _stretch(self, tokens: int, *, prefill_s: float = 0.0) -> None:
        slots = self._request.slots
        made = tokens - self._tokens
        if made < _MIN_TOKENS * slots:
            return
        now, area = self._limits.mark()
        seconds = now - self._at
        if seconds > prefill_s:
            in_flight = (area - self._area) / seconds
            self._limits.took((seconds - prefill_s) * slots / made, in_flight=in_flight)
        self._tokens, self._at, self._area = tokens, now, area
