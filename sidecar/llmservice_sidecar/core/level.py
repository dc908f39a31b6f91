"""The tenants that wait on one priority level, and whose turn it is. O(log n) in both numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from llmservice_sidecar.core.fair_share import FairShare
from llmservice_sidecar.core.queue import Key, RequestQueue, Waiting
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.sorted_blocks import SortedBlocks

Rank: TypeAlias = tuple[Key, int]


def rank(item: Waiting) -> Rank:
    """Its place among those of its level: by key, then by arrival."""
    return (item.key, item.number)


class Level:
    """A queue for each tenant; the smallest key goes first among tenants within the slack.

    Tenants are sorted by account, and by head as far as they are thought to be within the slack:
    who turns out to be beyond it is put aside until the least account has come near enough. Most
    changes are looked at only when somebody asks, and with a single tenant never.
    """

    def __init__(self, shares: FairShare) -> None:
        self.lanes: dict[str, RequestQueue] = {}
        self._shares = shares
        self._changed: set[str] = set()  # what is sorted below is old for these
        self._sorted: dict[str, tuple[float, Rank]] = {}  # account and head, as sorted
        self._accounts: SortedBlocks[tuple[float, str]] = SortedBlocks()
        self._heads: SortedBlocks[tuple[Rank, str]] = SortedBlocks()
        self._aside: SortedBlocks[tuple[float, str]] = SortedBlocks()
        self._is_aside: set[str] = set()

    def __len__(self) -> int:
        """How many requests wait here. O(tenants)."""
        return sum(map(len, self.lanes.values()))

    def push(self, tenant: str, item: Waiting) -> None:
        """Add a request of this tenant."""
        lane = self.lanes.get(tenant)
        if lane is None:
            lane = self.lanes[tenant] = RequestQueue()
        lane.push(item)
        self._changed.add(tenant)

    def remove(self, tenant: str, item: Waiting) -> None:
        """Take it out. Raises KeyError if it is not here."""
        lane = self.lanes[tenant]
        lane.remove(item)
        self._changed.add(tenant)
        if not lane:
            del self.lanes[tenant]
            self._forget(tenant)

    def charged(self, tenant: str) -> None:
        """The tenant's account has changed."""
        if tenant in self.lanes:
            self._changed.add(tenant)

    def rekey(self, key_of: Callable[[Request], Key]) -> None:
        """Give all a new key. O(n log n)."""
        for lane in self.lanes.values():
            lane.rekey(key_of)
        self._changed.update(self.lanes)

    def least(self) -> float:
        """The least account of those who wait. Raises IndexError when nobody does."""
        self._refresh()
        return self._accounts.first()[0]

    def head(self) -> Waiting:
        """Whose turn it is. Raises IndexError when nobody waits."""
        if len(self.lanes) == 1:
            return next(iter(self.lanes.values())).head
        bound = self.least() + self._shares.slack_tokens
        while self._aside and self._aside.first()[0] <= bound:
            account, tenant = self._aside.first()
            self._aside.remove((account, tenant))
            self._is_aside.remove(tenant)
            self._heads.add((self._sorted[tenant][1], tenant))
        while True:
            head, tenant = self._heads.first()
            account = self._sorted[tenant][0]
            if account <= bound:
                return self.lanes[tenant].head
            self._heads.remove((head, tenant))
            self._aside.add((account, tenant))
            self._is_aside.add(tenant)

    def _refresh(self) -> None:
        for tenant in tuple(self._changed):
            self._forget(tenant)
            account, head = self._shares.account(tenant), rank(self.lanes[tenant].head)
            self._sorted[tenant] = (account, head)
            self._accounts.add((account, tenant))
            self._heads.add((head, tenant))

    def _forget(self, tenant: str) -> None:
        """It is sorted nowhere any more."""
        self._changed.discard(tenant)
        if tenant not in self._sorted:
            return
        account, head = self._sorted.pop(tenant)
        self._accounts.remove((account, tenant))
        if tenant in self._is_aside:
            self._is_aside.remove(tenant)
            self._aside.remove((account, tenant))
        else:
            self._heads.remove((head, tenant))
