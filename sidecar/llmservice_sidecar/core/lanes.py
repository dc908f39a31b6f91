"""All that wait: a queue for each tenant of each priority level, and whose turn it is.

The higher level goes first. Within one, no tenant gets further ahead of the least served than the
slack of `FairShare`; among those within it the smallest key decides, as if there were one queue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import chain, takewhile

from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.fair_share import FairShare
from llmservice_sidecar.core.queue import Key, RequestQueue, Waiting
from llmservice_sidecar.core.request import Request, RequestId


class Lanes:
    """The waiting requests, with the sums of their tokens."""

    def __init__(self) -> None:
        self.shares = FairShare()
        self._levels: dict[int, dict[str, RequestQueue]] = {}  # the highest first
        self._by_id: OrderedDict[RequestId, Waiting] = OrderedDict()  # in order of arrival
        self._prefill_tokens = 0
        self._predicted_tokens = 0.0

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._by_id

    @property
    def levels(self) -> tuple[int, ...]:
        """Priorities of those that wait, the highest first."""
        return tuple(self._levels)

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

    def get(self, request_id: RequestId) -> Waiting | None:
        return self._by_id.get(request_id)

    def push(self, item: Waiting) -> None:
        """Add a request. Its number must be unique; its id must not be queued."""
        request = item.request
        self._by_id[request.id] = item
        self._prefill_tokens += request.prefill_tokens
        self._predicted_tokens += request.predicted_tokens
        self._lane(request).push(item)

    def remove(self, request_id: RequestId) -> Waiting:
        """Take a request out, wherever it stands. Raises KeyError if it is not queued."""
        item = self._by_id.pop(request_id)
        request = item.request
        self._prefill_tokens -= request.prefill_tokens
        self._predicted_tokens -= request.predicted_tokens
        level = self._levels[request.priority]
        lane = level[_tenant(request)]
        lane.remove(item)
        if not lane:
            del level[_tenant(request)]
            if not level:
                del self._levels[request.priority]
        if not self._by_id:
            self._predicted_tokens = 0.0  # sums of floats drift
            self.shares.close()
        return item

    def update(self, request_id: RequestId, request: Request, key: Key) -> None:
        """Another prediction of a request that waits: it keeps its number. Raises KeyError."""
        old = self._by_id[request_id]
        lane = self._levels[old.request.priority][_tenant(old.request)]
        lane.remove(old)
        self._predicted_tokens += request.predicted_tokens - old.request.predicted_tokens
        old.key, old.request = key, request
        lane.push(old)

    def head(self, level: int) -> Waiting:
        """Whose turn it is on this level: the smallest key among tenants within the slack.

        Raises KeyError when nobody waits there.
        """
        lanes = self._levels[level]
        if len(lanes) == 1:
            return next(iter(lanes.values())).head
        bound = min(map(self.shares.account, lanes)) + self.shares.slack_tokens
        within = (lane for tenant, lane in lanes.items() if self.shares.account(tenant) <= bound)
        return min((lane.head for lane in within), key=_rank)

    def before(self, item: Waiting) -> int:
        """How many stand before it: all of higher levels, and smaller keys on its own."""
        count = 0
        for level, lanes in self._levels.items():
            if level > item.request.priority:
                count += sum(map(len, lanes.values()))
            elif level == item.request.priority:
                count += sum(lane.before(item.key, item.number) for lane in lanes.values())
        return count

    def rekey(self, key_of: Callable[[Request], Key]) -> None:
        """Give all a new key. O(n log n)."""
        for lanes in self._levels.values():
            for lane in lanes.values():
                lane.rekey(key_of)
        self._predicted_tokens = sum(item.request.predicted_tokens for item in self._by_id.values())

    def ahead_of(self, item: Waiting) -> Iterator[Waiting]:
        """Who stands before it, as `before` counts them, in their order."""
        for level, lanes in self._levels.items():
            ordered = merge(*lanes.values(), key=_rank)
            if level > item.request.priority:
                yield from ordered
            elif level == item.request.priority:
                yield from takewhile(lambda other: _rank(other) < _rank(item), ordered)

    def make_room(self, request: Request) -> Waiting | None:
        """Take out whom a full queue can spare for this request; None: nobody.

        The last of the tenant with most waiting on the lowest level, if that level is lower than
        the request's, or its tenant has fewer waiting there.
        """
        if not self._by_id:
            return None
        lowest = min(self._levels)
        lanes = self._levels[lowest]
        longest = max(lanes.values(), key=lambda lane: (len(lane), _rank(lane.last)))
        if lowest == request.priority:
            own = lanes.get(_tenant(request))
            if len(longest) <= (0 if own is None else len(own)) + 1:
                return None
        elif lowest > request.priority:
            return None
        return self.remove(longest.last.request.id)

    def _lane(self, request: Request) -> RequestQueue:
        level = self._levels.get(request.priority)
        if level is None:
            level = self._levels[request.priority] = {}
            self._levels = dict(sorted(self._levels.items(), reverse=True))
        tenant = _tenant(request)
        lane = level.get(tenant)
        if lane is None:
            waiting = set(chain.from_iterable(self._levels.values()))
            self.shares.came_back(tenant, waiting=waiting)
            lane = level[tenant] = RequestQueue()
        return lane


def _rank(item: Waiting) -> tuple[Key, int]:
    return (item.key, item.number)


def _tenant(request: Request) -> str:
    return request.tenant or ""
