"""In which order those who wait would run, when, and why so: read off a gate, changing nothing.

The order is the one in which the gate would admit if slots for all fell free this moment:
promotion, levels with their caps, fair shares, keys. New arrivals and predictions change it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from llmservice_sidecar.core.ahead import Ahead, AheadCounts
from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.eta import free_times
from llmservice_sidecar.core.fair_share import charge_of
from llmservice_sidecar.core.in_flight import slots_left_s
from llmservice_sidecar.core.lanes import Lanes
from llmservice_sidecar.core.level import Level, rank
from llmservice_sidecar.core.queue import Waiting
from llmservice_sidecar.core.request import Request, RequestId
from llmservice_sidecar.core.room import Room, Turn


class Hold(StrEnum):
    """Why a request is not admitted now, whoever else waits."""

    LIMIT = "limit"  # it wants more slots than are free
    RULE = "rule"  # slots are free, but an admission rule says no
    PRIORITY_CAP = "priority_cap"  # its priority holds all the slots that it may
    TOO_WIDE = "too_wide"  # it wants more slots than the limit, or its priority's cap, has now


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One who waits, in its place. `starts_in_s` is None while nothing can be said of it.

    `hold` is None for those who wait for nothing but the ones before them.
    """

    item: Waiting
    promoted: bool
    starts_in_s: float | None
    hold: Hold | None
    ahead: Ahead


def foresee(
    room: Room, lanes: Lanes, costs: ServiceCosts | None, *, now: float, rows: int
) -> list[Foreseen]:
    """The first `rows` of those who wait. O(tenants + rows log tenants).

    Where fair shares or promotion set the order there are rows^2 / 2 comparisons, too.
    """
    starts = None if costs is None else _Starts(room, costs, now=now)
    counts = AheadCounts()
    foreseen: list[Foreseen] = []
    for turn, capped in _turns(room, lanes, now=now):
        if len(foreseen) >= rows:
            break
        item = turn.item
        hold = _hold(room, item.request, capped=capped, first=not foreseen)
        starts_in_s = None if starts is None else starts.next(item.request, hold)
        ahead = counts.of_next(turn)
        foreseen.append(Foreseen(item, turn.promoted, starts_in_s, hold, ahead))
    return foreseen


def _hold(room: Room, request: Request, *, capped: bool, first: bool) -> Hold | None:
    if room.is_wide(request):
        return Hold.TOO_WIDE
    if capped:
        return Hold.PRIORITY_CAP
    if not first:
        return None
    return Hold.LIMIT if room.in_flight.slots + request.slots > room.limit_slots else Hold.RULE


class _Starts:
    """Predicted starts by list scheduling, as for a single request."""

    def __init__(self, room: Room, costs: ServiceCosts, *, now: float) -> None:
        self._room = room
        self._costs = costs
        self._now = now
        self._free = self._free_times(lambda _: True, room.limit_slots)
        self._capped: dict[int, list[float]] = {}  # slots of the priorities that are held
        self._blocked = False

    def next(self, request: Request, hold: Hold | None) -> float | None:
        """Of who comes after all that were asked for before."""
        if hold is Hold.TOO_WIDE:
            # It starts when the limit grows, and nobody overtakes it.
            self._blocked = True
        if self._blocked:
            return None
        free = self._capped_slots(request.priority) if hold is Hold.PRIORITY_CAP else self._free
        starts_in_s = free[0]
        heapq.heapreplace(free, starts_in_s + self._costs.cost_s(request))
        return starts_in_s

    def _capped_slots(self, priority: int) -> list[float]:
        """Who is held by its cap waits for a slot of its own priority."""
        if priority not in self._capped:
            self._capped[priority] = self._free_times(
                lambda request: request.priority == priority, self._room.caps[priority]
            )
        return self._capped[priority]

    def _free_times(self, counts: Callable[[Request], bool], limit_slots: int) -> list[float]:
        flights = [flight for flight in self._room.in_flight if counts(flight.running.request)]
        left_s = slots_left_s(flights, self._costs, now=self._now)
        return free_times(left_s, limit_slots=limit_slots)


def _turns(room: Room, lanes: Lanes, *, now: float) -> Iterator[tuple[Turn, bool]]:
    """Turn after turn; True: only because caps are lifted, for nobody else is left."""
    accounts: dict[str, float] = {}
    gone: set[RequestId] = set()
    contests = [_Contest(level, lanes, accounts, gone) for level in lanes.levels]
    elders = _Elders(room, lanes, gone, now=now)
    level_slots: Counter[int] = Counter()
    while contests := [contest for contest in contests if contest.heads]:
        turn, capped = elders.next(level_slots), False
        if turn is None:
            heads = [contest.head() for contest in contests]
            free = [
                head
                for head in heads
                if room.level_has_room(head.request, also=level_slots[head.request.priority])
            ]
            turn, capped = Turn((free or heads)[0]), not free
        request = turn.item.request
        gone.add(request.id)
        level_slots[request.priority] += request.slots
        accounts[request.tenant or ""] += charge_of(request)
        for contest in contests:
            contest.took(turn.item)
        yield turn, capped


class _Elders:
    """Who has waited beyond the promotion age, in arrival order, while their share has room."""

    def __init__(self, room: Room, lanes: Lanes, gone: set[RequestId], *, now: float) -> None:
        after_s = room.promote_after_s
        self._room = room
        self._gone = gone
        self._now = now
        self._after_s = 0.0 if after_s is None else after_s
        self._waiting = iter(() if after_s is None else lanes.by_arrival)
        self._first = next(self._waiting, None)
        self._promoted_slots = 0

    def next(self, level_slots: Mapping[int, int]) -> Turn | None:
        """The next of them; None: nobody now."""
        room = self._room
        while (item := self._first) is not None:
            request = item.request
            if self._now - request.arrived_at < self._after_s:
                return None
            also = level_slots[request.priority]
            if (
                request.id not in self._gone
                and not room.is_wide(request)
                and room.level_has_room(request, also=also)
            ):
                if not room.share_has_room(request, also=self._promoted_slots):
                    return None
                self._promoted_slots += request.slots
                return Turn(item, promoted=True)
            self._first = next(self._waiting, None)  # its cap holds it from here on
        return None


class _Contest:
    """Whose turn it is on one level while it empties: `Level.head` without an end to arrivals.

    Accounts only grow here, so what is sorted may be old, but never too late.
    """

    def __init__(
        self, level: Level, lanes: Lanes, accounts: dict[str, float], gone: set[RequestId]
    ) -> None:
        self._accounts = accounts
        self._gone = gone
        self._slack = lanes.slack_tokens
        self._rest = {tenant: iter(lane) for tenant, lane in level.lanes.items()}
        self.heads = {tenant: next(rest) for tenant, rest in self._rest.items()}
        for tenant in self.heads:
            accounts.setdefault(tenant, lanes.account(tenant))
        self._least = [(accounts[tenant], tenant) for tenant in self.heads]
        self._ready = [(rank(head), tenant) for tenant, head in self.heads.items()]
        self._aside: list[tuple[float, str]] = []
        heapq.heapify(self._least)
        heapq.heapify(self._ready)

    def head(self) -> Waiting:
        """Whose turn it is: the smallest key among tenants within the slack."""
        bound = self._least_account() + self._slack
        while self._aside and self._aside[0][0] <= bound:
            tenant = heapq.heappop(self._aside)[1]
            if tenant in self.heads:
                heapq.heappush(self._ready, (rank(self.heads[tenant]), tenant))
        while True:
            first, tenant = self._ready[0]
            head = self.heads.get(tenant)
            if head is not None and first == rank(head):
                if self._accounts[tenant] <= bound:
                    return head
                heapq.heappush(self._aside, (self._accounts[tenant], tenant))
            heapq.heappop(self._ready)

    def took(self, item: Waiting) -> None:
        """It runs, whichever level it was on."""
        tenant = item.request.tenant or ""
        if self.heads.get(tenant) is not item:
            return
        for following in self._rest[tenant]:
            if following.request.id not in self._gone:
                self.heads[tenant] = following
                heapq.heappush(self._ready, (rank(following), tenant))
                return
        del self.heads[tenant]

    def _least_account(self) -> float:
        while True:
            account, tenant = self._least[0]
            now = self._accounts[tenant]
            if tenant in self.heads and account == now:
                return account
            heapq.heappop(self._least)
            if tenant in self.heads:
                heapq.heappush(self._least, (now, tenant))
