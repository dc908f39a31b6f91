"""Requests that wait, in key order. Knows neither policy nor slots nor tenants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

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
        # Flat entries (*key, number, item): Python sorts tuples fastest by a leading float. The
        # number is unique, so two items are never compared.
        self._order: SortedBlocks[tuple[Any, ...]] = SortedBlocks()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Waiting]:
        """In the order in which they would run."""
        return (entry[-1] for entry in self._order)

    @property
    def head(self) -> Waiting:
        """Who runs next. Raises IndexError when nobody waits."""
        return self._order.first()[-1]

    @property
    def last(self) -> Waiting:
        """Who would run last. Raises IndexError when nobody waits."""
        return self._order.last()[-1]

    def push(self, item: Waiting) -> None:
        """Add a request; its number must be unique."""
        self._order.add((*item.key, item.number, item))

    def remove(self, item: Waiting) -> None:
        """Take a request out, wherever it stands. Raises KeyError if it is not here."""
        order = self._order
        if order and order.first()[-1] is item:
            order.drop_first()  # whose turn it was: most leave like this, and need no search
        else:
            order.remove((*item.key, item.number, item))

    def before(self, key: Key, number: int) -> int:
        """How many stand before (key, number)."""
        return self._order.rank((*key, number))

    def rekey(self, key_of: Callable[[Request], Key]) -> None:
        """Give all a new key. O(n log n)."""
        entries: list[tuple[Any, ...]] = []
        for item in self:
            item.key = key_of(item.request)
            entries.append((*item.key, item.number, item))
        self._order.replace(entries)
