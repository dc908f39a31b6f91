"""All that wait: a queue for each tenant of each priority level, and whose turn it is.

The higher level goes first. Within one, no tenant gets further ahead of the least served than the
slack of `FairShare`; among those within it the smallest key decides, as if there were one queue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import merge
from itertools import takewhile

from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.fair_share import Charge, FairShare, charge_of
from llmservice_sidecar.core.level import Level, rank
from llmservice_sidecar.core.queue import Key, Waiting
from llmservice_sidecar.core.request import Request, RequestId


class Lanes:
    """The waiting requests, with the sums of their tokens."""

    def __init__(self) -> None:
        self._shares = FairShare()
        self._levels: dict[int, Level] = {}  # the highest first
        self._by_id: OrderedDict[RequestId, Waiting] = OrderedDict()  # in order of arrival
        self._prefill_tokens = 0
        self._predicted_tokens = 0.0

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._by_id

    @property
    def levels(self) -> Collection[Level]:
        """Those on which somebody waits, of the highest priority first."""
        return self._levels.values()

    @property
    def predicted_tokens(self) -> float:
        """Predicted output tokens of all that wait."""
        return self._predicted_tokens

    def cost_s(self, costs: ServiceCosts) -> float:
        """Predicted slot-seconds of all that wait."""
        return (
            costs.s_per_token * self._predicted_tokens
            + costs.s_per_prefill_token * self._prefill_tokens
        )

    @property
    def by_arrival(self) -> Iterable[Waiting]:
        """All that wait, the earliest first."""
        return self._by_id.values()

    @property
    def slack_tokens(self) -> float:
        """So far may a tenant be ahead of the least served one of its level, and still go on."""
        return self._shares.slack_tokens

    def account(self, tenant: str) -> float:
        """Tokens that the tenant has been charged."""
        return self._shares.account(tenant)

    def grow(self, limit_slots: int) -> None:
        """The limit is so many slots now, and the slack of fair shares grows with it."""
        self._shares.slots = limit_slots

    def get(self, request_id: RequestId) -> Waiting | None:
        return self._by_id.get(request_id)

    def push(self, item: Waiting) -> None:
        """Add a request. Its number must be unique; its id must not be queued."""
        request = item.request
        tenant = request.tenant or ""
        self._by_id[request.id] = item
        self._prefill_tokens += request.prefill_tokens
        self._predicted_tokens += request.predicted_tokens
        level = self._levels.get(request.priority)
        if level is None or tenant not in level.lanes:
            level = self._join(tenant, request.priority)
        level.push(tenant, item)

    def remove(self, request_id: RequestId) -> Waiting:
        """Take a request out, wherever it stands. Raises KeyError if it is not queued."""
        item = self._by_id.pop(request_id)
        request = item.request
        self._prefill_tokens -= request.prefill_tokens
        self._predicted_tokens -= request.predicted_tokens
        level = self._levels[request.priority]
        level.remove(request.tenant or "", item)
        if not level.lanes:
            del self._levels[request.priority]
        if not self._by_id:
            self._predicted_tokens = 0.0  # sums of floats drift
            self._shares.close()
        return item

    def update(self, request_id: RequestId, request: Request, key: Key) -> None:
        """Another prediction of a request that waits: it keeps its number. Raises KeyError."""
        old = self._by_id[request_id]
        tenant, level = old.request.tenant or "", self._levels[old.request.priority]
        level.remove(tenant, old)
        self._predicted_tokens += request.predicted_tokens - old.request.predicted_tokens
        old.key, old.request = key, request
        level.push(tenant, old)

    def charge(self, request: Request) -> Charge:
        """It runs: put it on its tenant's account as predicted."""
        tenant = request.tenant or ""
        charge = self._shares.charge(tenant, charge_of(request))
        self._charged(tenant)
        return charge

    def settle(self, charge: Charge, tokens: float) -> None:
        """It has left: so many tokens it was in the end."""
        self._shares.settle(charge, tokens)
        self._charged(charge.tenant)

    def before(self, item: Waiting) -> int:
        """How many stand before it: all of higher levels, and smaller keys on its own."""
        count = 0
        for priority, level in self._levels.items():
            if priority > item.request.priority:
                count += len(level)
            elif priority == item.request.priority:
                lanes = level.lanes.values()
                count += sum(lane.before(item.key, item.number) for lane in lanes)
        return count

    def rekey(self, key_of: Callable[[Request], Key]) -> None:
        """Give all a new key. O(n log n)."""
        for level in self._levels.values():
            level.rekey(key_of)
        self._predicted_tokens = sum(item.request.predicted_tokens for item in self._by_id.values())

    def ahead_of(self, item: Waiting) -> Iterator[Waiting]:
        """Who stands before it, as `before` counts them, in their order."""
        for priority, level in self._levels.items():
            ordered = merge(*level.lanes.values(), key=rank)
            if priority > item.request.priority:
                yield from ordered
            elif priority == item.request.priority:
                yield from takewhile(lambda other: rank(other) < rank(item), ordered)

    def make_room(self, request: Request) -> Waiting | None:
        """Take out whom a full queue can spare for this request; None: nobody.

        The last of the tenant with most waiting on the lowest level, if that level is lower than
        the request's, or its tenant has fewer waiting there.
        """
        if not self._by_id:
            return None
        lowest = min(self._levels)
        lanes = self._levels[lowest].lanes
        longest = max(lanes.values(), key=lambda lane: (len(lane), rank(lane.last)))
        if lowest == request.priority:
            own = lanes.get(request.tenant or "")
            if len(longest) <= (0 if own is None else len(own)) + 1:
                return None
        elif lowest > request.priority:
            return None
        return self.remove(longest.last.request.id)

    def _join(self, tenant: str, priority: int) -> Level:
        """The tenant is about to wait on this level: it is part of the contest from now on."""
        least = min((other.least() for other in self._levels.values()), default=None)
        self._shares.came_back(tenant, least=least, waits=self._waits)
        self._charged(tenant)
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = Level(self._shares)
            self._levels = dict(sorted(self._levels.items(), reverse=True))
        return level

    def _waits(self, tenant: str) -> bool:
        return any(tenant in level.lanes for level in self._levels.values())

    def _charged(self, tenant: str) -> None:
        for level in self._levels.values():
            level.charged(tenant)
