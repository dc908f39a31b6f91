"""The gate's rules written as plainly as possible, O(n) everywhere: what the real one must equal.

Nothing of the real gate is used but its values. Formulas are those of the papers, not rearranged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fakes.naive_entry import SLACK_PER_SLOT, Entry, NaiveShares, first_free_s
from fakes.naive_rates import NaiveRates, mean_excess
from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.request import Prediction, Request, RequestId


@dataclass(slots=True)
class NaiveGate:
    """Arrival order, or arrival boosted with tail weight `theta`; one rule, one limit."""

    boosted: bool
    theta: float
    limit: int
    max_queued: int
    max_queued_tokens: float = math.inf
    rule: Callable[[Request, list[Request]], bool] = lambda _request, _running: True
    caps: dict[int, int] = field(default_factory=dict[int, int])
    promote_after: float = math.inf
    queued: list[Entry] = field(default_factory=list[Entry])  # in arrival order
    running: dict[RequestId, Entry] = field(default_factory=dict[RequestId, Entry])
    rates: NaiveRates = field(default_factory=NaiveRates)
    costs: ServiceCosts | None = None  # with which the keys were made
    seen: list[float] = field(default_factory=list[float])
    excess: float = 0.0
    gamma: float = 1.0
    shares: NaiveShares = field(default_factory=NaiveShares)
    numbers: int = 0
    closed: bool = False
    estimate: float = 0.0  # of the last that was refused for its deadline
    displaced: RequestId | None = None  # by the last offer

    @property
    def in_flight(self) -> int:
        return sum(entry.request.slots for entry in self.running.values())

    @property
    def slack(self) -> float:
        return SLACK_PER_SLOT * max(self.limit, 1)

    def backlog(self, now: float) -> float:
        if self.costs is None:
            return 0.0
        total = sum(entry.cost_s(self.costs) for entry in self.queued)
        total += sum(entry.left_s(self.costs, now) for entry in self.running.values())
        return total / max(self.limit, 1)

    def wide(self, entry: Entry) -> bool:
        """It stands behind all others: it cannot run."""
        return entry.request.slots > min(self.limit, self.caps.get(entry.request.priority, 99))

    def key(self, entry: Entry) -> tuple[bool, float, int]:
        wide = self.wide(entry)
        arrival = entry.request.arrived_at
        if not self.boosted:
            return (wide, arrival, entry.number)
        if self.theta == 0:
            return (wide, entry.cost_s(self.costs or ServiceCosts(1.0, 0.05, 1.0)), entry.number)
        if self.costs is None:
            return (wide, arrival, entry.number)
        boost = -math.log(1 - math.exp(-self.gamma * entry.cost_s(self.costs))) / self.gamma
        return (wide, arrival - boost, entry.number)

    def bound_s(self, entry: Entry) -> float:
        """Arrivals within so many seconds may overtake."""
        if not self.boosted:
            return 0.0
        if self.theta == 0:
            return math.inf
        if self.costs is None:
            return 0.0
        return math.log(max(entry.cost_s(self.costs) / self.costs.s_per_token, 1)) / self.gamma

    def order(self) -> list[Entry]:
        """All that wait, by priority, then key."""
        return sorted(self.queued, key=lambda entry: (-entry.request.priority, self.key(entry)))

    # Whose turn is it?

    def turn(self, now: float) -> tuple[Entry, bool] | None:
        """Who runs next, and whether for having waited too long."""
        if self.in_flight >= self.limit:
            return None
        late = [e for e in self.queued if now - e.request.arrived_at >= self.promote_after]
        free = [e for e in late if not self.wide(e) and self.level_has_room(e)]
        if free:
            promoted = sum(e.request.slots for e in self.running.values() if e.promoted)
            share = max(1, self.limit // 4)
            within = promoted == 0 or promoted + free[0].request.slots <= share
            if within and self.fits(free[0]):
                return free[0], True
        for level in sorted({entry.request.priority for entry in self.queued}, reverse=True):
            head = self.head(level)
            if self.level_has_room(head):
                return (head, False) if self.fits(head) else None
        return None

    def head(self, level: int) -> Entry:
        here = [entry for entry in self.queued if entry.request.priority == level]
        accounts = self.shares.accounts
        least = min(accounts[entry.tenant] for entry in here)
        alone = len({entry.tenant for entry in here}) == 1
        near = [e for e in here if alone or accounts[e.tenant] <= least + self.slack]
        return min(near, key=self.key)

    def level_has_room(self, entry: Entry) -> bool:
        level = entry.request.priority
        same = [e.request.slots for e in self.running.values() if e.request.priority == level]
        return sum(same) + entry.request.slots <= self.caps.get(level, math.inf)

    def fits(self, entry: Entry) -> bool:
        running = [other.request for other in self.running.values()]
        free = self.limit - self.in_flight
        return entry.request.slots <= free and self.rule(entry.request, running)

    # When are keys made anew?

    def remake_keys(self, now: float) -> None:
        self.costs = self.rates.costs
        self.gamma = self.theta / self.horizon(now)

    def horizon(self, now: float) -> float:
        horizon = max(self.backlog(now), 2 * self.excess, 1e-3)
        deep = 12 * self.rates.mean_cost
        return (deep * horizon) ** 0.5 if 0 < deep < horizon else horizon

    def remake_keys_if_moved(self, now: float) -> float:
        """The backlog at the rates that hold now; gamma alone may take newer ones into the keys."""
        if self.costs_moved():
            self.remake_keys(now)
        backlog = self.backlog(now)
        if abs(self.theta / self.horizon(now) - self.gamma) > 0.05 * self.gamma:
            self.remake_keys(now)
        return backlog

    def costs_moved(self) -> bool:
        old, new = self.costs, self.rates.costs
        if old is None or new is None:
            return old is not new
        prefill = abs(new.s_per_prefill_token - old.s_per_prefill_token)
        decode = abs(new.s_per_token - old.s_per_token)
        return decode > 0.2 * old.s_per_token or prefill > 0.01 * old.step_s

    def observe_arrival(self, work: float) -> None:
        if self.costs is None:
            return
        self.seen.append(work)
        if len(self.seen) % 32 == 0 and len(self.seen) >= 64:
            self.excess = mean_excess(self.seen[-4096:])

    # What happens at the gate.

    def offer(self, request: Request, now: float) -> str:
        """`admitted`, `queued`, or why it was refused."""
        self.displaced = None
        if self.closed:
            return "draining"
        if request.slots > max(1, min(self.limit, self.caps.get(request.priority, 99))):
            return "too_large"
        waits = self.queued and self.in_flight < self.limit
        work = self.backlog(now) if waits else self.remake_keys_if_moved(now)
        self.observe_arrival(work)
        entry = Entry(self.numbers, request)
        self.numbers += 1
        at_once = self.runs_at_once(entry, now)
        if self.too_late(entry, now, waits=not at_once):
            return "deadline_unreachable"
        if not at_once:
            return self.wait(entry)
        self.admit(entry, now)
        return "admitted"

    def runs_at_once(self, entry: Entry, now: float) -> bool:
        if self.in_flight >= self.limit:
            return False
        if not self.queued:
            return self.level_has_room(entry) and self.fits(entry)
        self.enqueue(entry)
        turn = self.turn(now)
        self.queued.remove(entry)
        if turn is None or turn[0] is not entry:
            return False
        entry.promoted = turn[1]
        return True

    def too_late(self, entry: Entry, now: float, *, waits: bool) -> bool:
        if self.costs is None or entry.request.deadline_at is None:
            return False
        own_s = entry.cost_s(self.costs) / entry.request.slots
        self.estimate = own_s + (self.wait_s(entry, self.costs, now) if waits else 0.0)
        return now + self.estimate > entry.request.deadline_at

    def wait(self, entry: Entry) -> str:
        tokens = [other.request.predicted_tokens for other in [*self.queued, entry]]
        if sum(tokens) > self.max_queued_tokens:
            return "queued_tokens"
        if len(self.queued) >= self.max_queued:
            victim = self.victim(entry)
            if victim is None:
                return "queue_full"
            self.unqueue(victim)
            self.displaced = victim.request.id
        self.enqueue(entry)
        return "queued"

    def wait_s(self, entry: Entry, costs: ServiceCosts, now: float) -> float:
        """List scheduling: each takes the slot that is free first."""
        free = [
            running.expected_s(costs, now)
            for running in self.running.values()
            for _ in range(running.request.slots)
        ]
        rank = (-entry.request.priority, self.key(entry))
        before = [e for e in self.order() if (-e.request.priority, self.key(e)) < rank]
        return first_free_s(free, [e.cost_s(costs) for e in before], slots=max(self.limit, 1))

    def victim(self, newcomer: Entry) -> Entry | None:
        """The last of the tenant with most waiting on the lowest level."""
        lowest = min((entry.request.priority for entry in self.queued), default=None)
        if lowest is None or lowest > newcomer.request.priority:
            return None
        lanes: dict[str, list[Entry]] = {}
        for entry in self.order():
            if entry.request.priority == lowest:
                lanes.setdefault(entry.tenant, []).append(entry)
        longest = max(lanes.values(), key=lambda lane: (len(lane), self.key(lane[-1])))
        own = len(lanes.get(newcomer.tenant, ()))
        if lowest == newcomer.request.priority and len(longest) <= own + 1:
            return None
        return longest[-1]

    def enqueue(self, entry: Entry) -> None:
        level = entry.request.priority
        same = [e for e in self.queued if e.tenant == entry.tenant and e.request.priority == level]
        if not same:
            waiting = {other.tenant for other in self.queued}
            self.shares.join(entry.tenant, waiting, slack=self.slack)
        self.queued.append(entry)

    def unqueue(self, entry: Entry) -> None:
        self.queued.remove(entry)
        if not self.queued:
            self.shares.close()

    def admit(self, entry: Entry, now: float) -> None:
        entry.admitted_at = now
        self.shares.charge(entry)
        self.running[entry.request.id] = entry
        for other in self.queued:
            if other.number < entry.number:
                other.overtakers.append(entry)
                entry.overtook += 1

    def fill(self, now: float) -> list[RequestId]:
        admitted: list[RequestId] = []
        while (turn := self.turn(now)) is not None:
            entry, entry.promoted = turn
            self.unqueue(entry)
            self.admit(entry, now)
            admitted.append(entry.request.id)
        return admitted

    def progress(self, request_id: RequestId, generated: int, now: float) -> None:
        entry = self.running[request_id]
        entry.generated = max(entry.generated, generated)
        if entry.first_token_at is None and generated:
            entry.first_token_at = now
            delay_s = now - entry.admitted_at
            self.rates.first_token(entry.request.prefill_tokens, delay_s, self.in_flight)

    def leave(self, request_id: RequestId, now: float, *, output: int | None) -> list[RequestId]:
        """`output`: tokens of a complete answer."""
        entry = self.running.pop(request_id, None)
        if entry is not None:
            self.shares.settle(entry, entry.generated if output is None else output)
            if output is not None:
                start = entry.admitted_at if entry.first_token_at is None else entry.first_token_at
                service_s = (now - start) * entry.request.slots
                self.rates.finished(service_s, entry.request.predicted_tokens, output)
        for other in [other for other in self.queued if other.request.id == request_id]:
            self.unqueue(other)
        if self.queued:
            self.remake_keys_if_moved(now)
        return self.fill(now)

    def predict(self, request_id: RequestId, prediction: Prediction) -> None:
        for entry in [*self.queued, *self.running.values()]:
            if entry.request.id == request_id:
                entry.request = replace(entry.request, prediction=prediction)
