"""Is there room, and for whom? The limit, the caps of priorities, the promoted share, the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.core.in_flight import Flight, InFlight
from llmservice_sidecar.core.lanes import Lanes
from llmservice_sidecar.core.queue import Waiting
from llmservice_sidecar.core.request import Request, RequestId
from llmservice_sidecar.core.rules import AdmissionRule

PROMOTED_SHARE: Final = 0.25  # of the slots: with more, overload turns into arrival order


@dataclass(slots=True)  # not frozen: one is made for each request, in a third of the time
class Turn:
    """Who runs next; `promoted`: because it has waited too long."""

    item: Waiting
    promoted: bool = False


class Room:
    """What runs, beside what else may run."""

    def __init__(self, *, limit_slots: int, rules: Sequence[AdmissionRule]) -> None:
        self.in_flight: Final = InFlight()
        self.limit_slots = limit_slots
        self.caps: Mapping[int, int] = {}  # slots that a priority may hold
        self.promote_after_s: float | None = None
        self._rules = tuple(rules)
        self._level_slots: Counter[int] = Counter()
        self._promoted_slots = 0

    @property
    def is_full(self) -> bool:
        """No slot is free."""
        return self.in_flight.slots >= self.limit_slots

    @property
    def narrow_slots(self) -> int:
        """With up to so many slots a request is never too wide."""
        return min((self.limit_slots, *self.caps.values()))

    def is_wide(self, request: Request) -> bool:
        """It wants more slots than it can ever have: than the limit, or its priority's cap."""
        slots = request.slots
        return slots > self.limit_slots or slots > self.caps.get(request.priority, slots)

    def enter(self, flight: Flight) -> None:
        """A request begins to run."""
        request = flight.running.request
        self.in_flight.add(flight)
        self._level_slots[request.priority] += request.slots
        if flight.promoted:
            self._promoted_slots += request.slots

    def leave(self, request_id: RequestId) -> Flight | None:
        """It has ended; None if it was not running."""
        flight = self.in_flight.remove(request_id)
        if flight is not None:
            request = flight.running.request
            self._level_slots[request.priority] -= request.slots
            if flight.promoted:
                self._promoted_slots -= request.slots
        return flight

    def admits(self, request: Request) -> bool:
        """May this request run beside what runs, if it is its turn?"""
        return self.level_has_room(request) and self._fits(request)

    def level_has_room(self, request: Request, *, also: int = 0) -> bool:
        """Its priority's cap leaves room for it, with `also` so many more slots in use."""
        cap = self.caps.get(request.priority)
        return cap is None or self._level_slots[request.priority] + also + request.slots <= cap

    def share_has_room(self, request: Request, *, also: int = 0) -> bool:
        """The share of who has waited too long has room, with `also` more of its slots in use."""
        # The first may be wider than the share, or it would never be promoted.
        share = max(1, int(self.limit_slots * PROMOTED_SHARE))
        promoted_slots = self._promoted_slots + also
        return not promoted_slots or promoted_slots + request.slots <= share

    def next(self, lanes: Lanes, *, now: float) -> Turn | None:
        """Whose turn it is, if there is room; None: nobody's."""
        if self.promote_after_s is not None:
            promoted = self._promoted(lanes, now, after_s=self.promote_after_s)
            if promoted is not None:
                return Turn(promoted, promoted=True)
        for level in lanes.levels:
            head = level.head()
            if self.level_has_room(head.request):
                # Nothing overtakes the head: when it does not fit, all wait for it.
                return Turn(head) if self._fits(head.request) else None
        return None

    def _promoted(self, lanes: Lanes, now: float, *, after_s: float) -> Waiting | None:
        """The earliest arrival that its cap does not hold, if it has waited so long.

        None while the share of such requests is used up. O(1) but for those held by their caps.
        """
        for item in lanes.by_arrival:
            request = item.request
            if now - request.arrived_at < after_s:
                return None
            if not self.is_wide(request) and self.level_has_room(request):
                return item if self.share_has_room(request) and self._fits(request) else None
        return None

    def _fits(self, request: Request) -> bool:
        if self.in_flight.slots + request.slots > self.limit_slots:
            return False
        if not self._rules:
            return True
        running = [flight.running for flight in self.in_flight]
        return all(rule.admits(request, running) for rule in self._rules)
