"""Requests that wait, in key order. Knows neither policy nor slots nor tenants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.sorted_blocks import SortedBlocks

Key: TypeAlias = tuple[float, ...]


@dataclass(slots=True)
class Waiting:
    """A queued request under its key; `number` counts arrivals and breaks ties."""

    key: Key
    number: int
    request: Request


class RequestQueue:
    """Waiting requests, smallest (key, arrival number) first."""

    def __init__(self) -> None:
        self._order: SortedBlocks[tuple[Key, int, Waiting]] = SortedBlocks()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Waiting]:
        """In the order in which they would run."""
        return (item for _, _, item in self._order)

    @property
    def head(self) -> Waiting:
        """Who runs next. Raises IndexError when nobody waits."""
        return self._order.first()[2]

    @property
    def last(self) -> Waiting:
        """Who would run last. Raises IndexError when nobody waits."""
        return self._order.last()[2]

    def push(self, item: Waiting) -> None:
        """Add a request; its number must be unique."""
        self._order.add((item.key, item.number, item))

    def remove(self, item: Waiting) -> None:
        """Take a request out, wherever it stands. Raises KeyError if it is not here."""
        self._order.remove((item.key, item.number, item))

    def before(self, key: Key, number: int) -> int:
        """How many stand before (key, number)."""
        return self._order.rank((key, number))

    def rekey(self, key_of: Callable[[Request], Key]) -> None:
        """Give all a new key. O(n log n)."""
        items = list(self)
        for item in items:
            item.key = key_of(item.request)
        self._order.replace((item.key, item.number, item) for item in items)
