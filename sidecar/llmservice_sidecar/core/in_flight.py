"""What runs now, and how much of it is left. All sums are kept, so asking costs no walk."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.fair_share import Charge
from llmservice_sidecar.core.request import Prediction, RequestId
from llmservice_sidecar.core.rules import Running

# Chosen on three mixes of work for the least error of predicted starts.
OUTLIVED_SHARE: Final = 0.15


@dataclass(slots=True)
class Flight:
    """A request in flight with its standing at admission.

    `left_s`: slot-seconds still to come as of its first token (before that: as of admission);
    `counts`: they are part of the sums. `promoted`: it runs on the share of those who waited long.
    """

    running: Running
    standing: Standing
    charge: Charge
    promoted: bool = False
    left_s: float = 0.0
    counts: bool = False


class InFlight:
    """The running requests with their slots and predicted remaining slot-seconds.

    Work decays from the first token on, not from admission: before it a request may still wait
    inside the engine. What has outlived its prediction counts as nothing, not as less.
    """

    def __init__(self) -> None:
        self.slots = 0  # in use; a plain attribute, for it is asked for all the time
        self._by_id: dict[RequestId, Flight] = {}
        self._costs: ServiceCosts | None = None
        self._still_s = 0.0  # work of those without a first token
        # Of those with one: work = sum of (left + slots x first token) - now x sum of slots, until
        # the moment at which it is used up.
        self._decaying_s = 0.0
        self._decaying_slots = 0
        self._used_up: list[tuple[float, int, Flight]] = []  # a heap
        self._pushes = itertools.count()  # breaks ties in it

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._by_id

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._by_id.values())

    def get(self, request_id: RequestId) -> Flight | None:
        return self._by_id.get(request_id)

    def add(self, flight: Flight) -> None:
        """A request was admitted."""
        self._by_id[flight.running.request.id] = flight
        self.slots += flight.running.request.slots
        self._count(flight)

    def remove(self, request_id: RequestId) -> Flight | None:
        """It has left; None if it was not here."""
        flight = self._by_id.pop(request_id, None)
        if flight is not None:
            self.slots -= flight.running.request.slots
            self._uncount(flight)
            if not self._by_id:
                self._still_s = self._decaying_s = 0.0  # sums of floats drift
        return flight

    def generated(self, flight: Flight, tokens: int, *, now: float) -> bool:
        """So many tokens so far; True when they are its first: the prompt is done."""
        running = flight.running
        running.generated = max(running.generated, tokens)
        if running.first_token_at is not None or tokens <= 0:
            return False
        self._uncount(flight)
        running.first_token_at = now
        self._count(flight)
        return True

    def predicted(self, flight: Flight, prediction: Prediction) -> None:
        """A late prediction."""
        self._uncount(flight)
        flight.running.request = replace(flight.running.request, prediction=prediction)
        self._count(flight)

    def use(self, costs: ServiceCosts | None) -> None:
        """Count all work at these rates. O(n)."""
        self._costs = costs
        self._still_s = self._decaying_s = 0.0
        self._decaying_slots = 0
        self._used_up.clear()
        for flight in self._by_id.values():
            flight.counts = False
            self._count(flight)

    def left_s(self, *, now: float) -> float:
        """Predicted slot-seconds until all that runs is done; 0 while costs are unknown."""
        while self._used_up and self._used_up[0][0] <= now:
            at, _, flight = heapq.heappop(self._used_up)
            if flight.counts and at == _used_up_at(flight):
                self._uncount(flight)
        left_s = self._still_s + self._decaying_s - now * self._decaying_slots
        return left_s if left_s > 0 else 0.0

    def _count(self, flight: Flight) -> None:
        costs, running = self._costs, flight.running
        if costs is None:
            return
        request = running.request
        flight.counts = True
        if running.first_token_at is None:
            flight.left_s = costs.cost_s(request)
            self._still_s += flight.left_s
            return
        flight.left_s = costs.s_per_token * request.predicted_tokens
        self._decaying_s += flight.left_s + request.slots * running.first_token_at
        self._decaying_slots += request.slots
        heapq.heappush(self._used_up, (_used_up_at(flight), next(self._pushes), flight))

    def _uncount(self, flight: Flight) -> None:
        if not flight.counts:
            return
        flight.counts = False
        running = flight.running
        if running.first_token_at is None:
            self._still_s -= flight.left_s
        else:
            self._decaying_s -= flight.left_s + running.request.slots * running.first_token_at
            self._decaying_slots -= running.request.slots


def _used_up_at(flight: Flight) -> float:
    start = flight.running.first_token_at or 0.0
    return start + flight.left_s / flight.running.request.slots


def slots_left_s(flights: Iterable[Flight], costs: ServiceCosts, *, now: float) -> list[float]:
    """For each slot in use: predicted seconds until it is free.

    An answer that has outlived its prediction is expected to go on for a part of its age: without
    that, predicted starts are too early.
    """
    left_s: list[float] = []
    for flight in flights:
        running, slots = flight.running, flight.running.request.slots
        if running.first_token_at is None:
            rest_s = costs.cost_s(running.request) / slots
        else:
            decode_s = costs.s_per_token * running.request.predicted_tokens / slots
            age_s = now - running.first_token_at
            rest_s = max(decode_s - age_s, OUTLIVED_SHARE * age_s)
        left_s += [rest_s] * slots
    return left_s
