"""The gate's rules written as plainly as possible, O(n) everywhere: what the real one must equal.

Nothing of the real gate is used but its values. Formulas are those of the papers, not rearranged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from llmservice_sidecar.core.request import Prediction, Request, RequestId


@dataclass(slots=True)
class Entry:
    """A request here, queued or running; `number` counts arrivals."""

    number: int
    request: Request
    first_token_at: float | None = None
    admitted_at: float = 0.0
    overtook: int = 0
    overtakers: list[Entry] = field(default_factory=list["Entry"])

    @property
    def work(self) -> float:
        request = self.request
        limit = math.inf if request.max_tokens is None else request.max_tokens
        tokens = max(min(request.prediction.output_tokens, limit), 1.0)
        return tokens * request.slots + 0.05 * request.prompt_tokens


@dataclass(slots=True)
class NaiveGate:
    """Arrival order, or arrival boosted with tail weight `theta`; one rule, one limit."""

    boosted: bool
    theta: float
    limit: int
    max_queued: int
    max_queued_tokens: float = math.inf
    rule: Callable[[Request, list[Request]], bool] = lambda _request, _running: True
    queued: list[Entry] = field(default_factory=list[Entry])
    running: dict[RequestId, Entry] = field(default_factory=dict[RequestId, Entry])
    completions: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    seen: list[float] = field(default_factory=list[float])
    excess: float = 0.0
    gamma: float = 1.0
    made_with: float | None = None  # seconds per token of the queued keys
    numbers: int = 0
    closed: bool = False

    @property
    def in_flight(self) -> int:
        return sum(entry.request.slots for entry in self.running.values())

    def s_per_token(self) -> float | None:
        """kappa: each completion counts 255/256 of the next."""
        service = tokens = 0.0
        for age, (service_s, work) in enumerate(reversed(self.completions)):
            service += service_s * (255 / 256) ** age
            tokens += work * (255 / 256) ** age
        return service / tokens if len(self.completions) >= 8 and service > 0 else None

    def backlog(self, now: float) -> float:
        rate = self.s_per_token()
        if rate is None:
            return 0.0
        total = sum(rate * entry.work for entry in self.queued)
        for entry in self.running.values():
            served = 0.0 if entry.first_token_at is None else now - entry.first_token_at
            total += max(0.0, rate * entry.work - served * entry.request.slots)
        return total / max(self.limit, 1)

    def key(self, entry: Entry) -> tuple[bool, float, int]:
        wide = entry.request.slots > self.limit
        arrival = entry.request.arrived_at
        if not self.boosted:
            return (wide, arrival, entry.number)
        if self.theta == 0:
            return (wide, entry.work * (self.made_with or 1.0), entry.number)
        if self.made_with is None:
            return (wide, arrival, entry.number)
        cost = self.made_with * entry.work
        boost = -math.log(1 - math.exp(-self.gamma * cost)) / self.gamma
        return (wide, arrival - boost, entry.number)

    def head(self) -> Entry | None:
        return min(self.queued, key=self.key, default=None)

    def fits(self, entry: Entry) -> bool:
        running = [other.request for other in self.running.values()]
        free = self.limit - self.in_flight
        return entry.request.slots <= free and self.rule(entry.request, running)

    def remake_keys(self, now: float) -> None:
        horizon = max(self.backlog(now), 2 * self.excess, 1e-3)
        self.gamma = self.theta / horizon
        self.made_with = self.s_per_token()

    def remake_keys_if_moved(self, now: float) -> None:
        gamma, rate = self.gamma, self.made_with
        self.remake_keys(now)
        if not self.queued:
            return
        same_rate = (
            rate is self.made_with
            if rate is None or self.made_with is None
            else abs(self.made_with - rate) <= 0.05 * rate
        )
        if same_rate and abs(self.gamma - gamma) <= 0.05 * gamma:
            self.gamma, self.made_with = gamma, rate

    def observe_arrival(self, now: float) -> None:
        if self.s_per_token() is None:
            return
        self.seen.append(self.backlog(now))
        if len(self.seen) % 32 == 0 and len(self.seen) >= 64:
            window = sorted(self.seen[-4096:])
            cut = window[int(0.8 * len(window))]
            above = [value - cut for value in window if value > cut]
            self.excess = sum(above) / len(above) if above else 0.0

    def offer(self, request: Request, now: float) -> str:
        """`admitted`, `queued`, or why it was refused."""
        if self.closed:
            return "draining"
        if request.slots > max(self.limit, 1):
            return "too_large"
        self.observe_arrival(now)
        if not self.queued or self.in_flight >= self.limit:
            self.remake_keys_if_moved(now)
        entry = Entry(self.numbers, request)
        head = self.head()
        if (head is None or self.key(entry) < self.key(head)) and self.fits(entry):
            self.numbers += 1
            self.admit(entry, now)
            return "admitted"
        if len(self.queued) >= self.max_queued:
            return "queue_full"
        tokens = [other.request.predicted_tokens for other in [*self.queued, entry]]
        if sum(tokens) > self.max_queued_tokens:
            return "queued_tokens"
        self.numbers += 1
        self.queued.append(entry)
        return "queued"

    def admit(self, entry: Entry, now: float) -> None:
        entry.admitted_at = now
        self.running[entry.request.id] = entry
        for other in self.queued:
            if other.number < entry.number:
                other.overtakers.append(entry)
                entry.overtook += 1

    def fill(self, now: float) -> list[RequestId]:
        admitted: list[RequestId] = []
        while (head := self.head()) is not None and self.fits(head):
            self.queued.remove(head)
            self.admit(head, now)
            admitted.append(head.request.id)
        return admitted

    def leave(self, request_id: RequestId, now: float, *, complete: bool) -> list[RequestId]:
        entry = self.running.pop(request_id, None)
        if entry is not None and complete:
            start = entry.admitted_at if entry.first_token_at is None else entry.first_token_at
            self.completions.append(((now - start) * entry.request.slots, entry.work))
        self.queued = [other for other in self.queued if other.request.id != request_id]
        if self.queued:
            self.remake_keys_if_moved(now)
        return self.fill(now)

    def predict(self, request_id: RequestId, prediction: Prediction, now: float) -> list[RequestId]:
        for entry in [*self.queued, *self.running.values()]:
            if entry.request.id == request_id:
                entry.request = _with(entry.request, prediction)
        return self.fill(now)


def _with(request: Request, prediction: Prediction) -> Request:
    return Request(
        id=request.id,
        arrived_at=request.arrived_at,
        prompt_tokens=request.prompt_tokens,
        prediction=prediction,
        max_tokens=request.max_tokens,
        slots=request.slots,
        tenant=request.tenant,
    )
