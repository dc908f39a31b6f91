"""What can be said of those who wait: where they stand, and when their turn will come."""

from __future__ import annotations

import math
from itertools import islice
from typing import Final

from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.eta import predicted_wait_s
from llmservice_sidecar.core.foresight import Foreseen, foresee
from llmservice_sidecar.core.in_flight import Flight, slots_left_s
from llmservice_sidecar.core.lanes import Lanes
from llmservice_sidecar.core.order import Order
from llmservice_sidecar.core.overtaking import Overtaking
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.queue import Waiting
from llmservice_sidecar.core.room import Room

MIN_RETRY_AFTER_S: Final = 1.0
MAX_RETRY_AFTER_S: Final = 300.0


class Outlook:
    """Reads the parts of a gate; changes nothing."""

    def __init__(self, *, order: Order, room: Room, lanes: Lanes, overtaking: Overtaking) -> None:
        self._order = order
        self._room = room
        self._lanes = lanes
        self._overtaking = overtaking

    def backlog_s(self, *, now: float) -> float:
        """Predicted seconds until all that is here is done; 0 while costs are unknown."""
        costs = self._order.costs
        if costs is None:
            return 0.0
        work_s = self._lanes.cost_s(costs) + self._room.in_flight.left_s(now=now)
        limit_slots = self._room.limit_slots
        return work_s / limit_slots if limit_slots > 1 else work_s

    def retry_after_s(self, *, now: float) -> float:
        """When a refused client should come back: once half of the predicted backlog is done.

        Not the whole of it, or the slots would idle when all refused clients return at once.
        """
        return min(max(self.backlog_s(now=now) / 2, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)

    def wait_s(self, item: Waiting, *, now: float) -> float | None:
        """Seconds until it starts, by list scheduling; None while costs are unknown. O(n)."""
        costs = self._order.costs
        if costs is None:
            return None
        left_s = slots_left_s(self._room.in_flight, costs, now=now)
        before_s = (costs.cost_s(other.request) for other in self._lanes.ahead_of(item))
        return predicted_wait_s(left_s, before_s, limit_slots=self._room.limit_slots)

    def late_s(self, item: Waiting, *, now: float, waits: bool) -> float | None:
        """Seconds until its answer is complete, if that is after its deadline; else None.

        O(n) if it has a deadline and waits. While costs are unknown nobody is late.
        """
        deadline_at, costs = item.request.deadline_at, self._order.costs
        if deadline_at is None or costs is None:
            return None
        wait_s = self.wait_s(item, now=now) if waits else 0.0
        estimate_s = (wait_s or 0.0) + costs.cost_s(item.request) / item.request.slots
        return estimate_s if now + estimate_s > deadline_at else None

    def view(self, *, now: float) -> QueueView:
        """What keys may depend on, as it is now."""
        return QueueView(
            now=now,
            depth=len(self._lanes),
            in_flight=self._room.in_flight.slots,
            limit_slots=self._room.limit_slots,
            gamma_per_s=self._order.gamma_at(self.backlog_s(now=now)),
            costs=self._order.costs,
        )

    def standing(self, item: Waiting) -> Standing:
        """Of a request that waits."""
        count, ids = self._overtaking.of(item.number)
        return Standing(
            key=own_key(item),
            position=self._lanes.before(item),
            depth=len(self._lanes),
            gamma_per_s=self._order.gamma_per_s,
            overtaking_bound_s=self._order.overtaking_bound_s(item.request),
            overtaken_by=count,
            overtaken_by_ids=ids,
        )

    def foresee(self, *, now: float, rows: int) -> list[Foreseen]:
        """The first `rows` of those who wait, in the order in which they would run."""
        return foresee(self._room, self._lanes, self._order.costs, now=now, rows=rows)

    def overtaken_by(self, item: Waiting) -> int:
        """How many later arrivals have been admitted while it waits."""
        return self._overtaking.of(item.number)[0]

    def overtaking_bound_s(self, item: Waiting) -> float | None:
        """Only arrivals within so many seconds after it can overtake it; None: no promise."""
        return self._order.overtaking_bound_s(item.request)

    def flights(self, *, rows: int) -> list[Flight]:
        """The first `rows` of what runs, the earliest admitted first."""
        return list(islice(self._room.in_flight, rows))

    def left_s(self, flight: Flight, *, now: float) -> float | None:
        """Predicted seconds until it is done; None while costs are unknown."""
        costs = self._order.costs
        return None if costs is None else slots_left_s([flight], costs, now=now)[0]

    @property
    def running_requests(self) -> int:
        """How many run."""
        return len(self._room.in_flight)


def own_key(item: Waiting) -> tuple[float, ...]:
    """The policy's key: without the mark of what is too wide to run."""
    return item.key[1:] if item.key[0] == math.inf else item.key
