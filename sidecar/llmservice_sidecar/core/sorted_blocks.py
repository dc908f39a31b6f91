"""A sorted list cut into blocks: O(log n) comparisons, and memory moves bounded by a block.

One list would move up to 8 bytes x n for each change, which shows beyond ten thousand entries.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final, Generic, Protocol, TypeVar

BLOCK: Final = 512


class _Comparable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


_T = TypeVar("_T", bound=_Comparable)


class SortedBlocks(Generic[_T]):
    """Distinct entries in ascending order."""

    def __init__(self, entries: Iterable[_T] = ()) -> None:
        self._blocks: list[list[_T]] = []
        self._lasts: list[_T] = []  # the largest entry of each block
        self._size = 0
        self.replace(entries)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[_T]:
        return chain.from_iterable(self._blocks)

    def first(self) -> _T:
        """The smallest entry. Raises IndexError when there is none."""
        return self._blocks[0][0]

    def last(self) -> _T:
        """The largest entry. Raises IndexError when there is none."""
        return self._lasts[-1]

    def add(self, entry: _T) -> None:
        """Put an entry in its place; it must not be here already."""
        self._size += 1
        if not self._blocks:
            self._blocks.append([entry])
            self._lasts.append(entry)
            return
        at = min(bisect_left(self._lasts, entry), len(self._blocks) - 1)
        block = self._blocks[at]
        insort(block, entry)
        self._lasts[at] = block[-1]
        if len(block) > 2 * BLOCK:
            self._blocks.insert(at + 1, block[BLOCK:])
            del block[BLOCK:]
            self._lasts.insert(at, block[-1])

    def remove(self, entry: _T) -> None:
        """Take an entry out. Raises KeyError if it is not here."""
        at, inside = self._find(entry)
        block = self._blocks[at]
        del block[inside]
        self._size -= 1
        if block:
            self._lasts[at] = block[-1]
        else:
            del self._blocks[at], self._lasts[at]

    def rank(self, entry: Any) -> int:
        """How many entries are smaller; `entry` need not be here: a tuple's beginning will do."""
        at = bisect_left(self._lasts, entry)
        if at == len(self._blocks):
            return self._size
        return sum(map(len, self._blocks[:at])) + bisect_left(self._blocks[at], entry)

    def start(self, entry: Any, count: int) -> list[_T]:
        """The first `count` entries that are not smaller than `entry`."""
        at = bisect_left(self._lasts, entry)
        if at == len(self._blocks):
            return []
        inside = bisect_left(self._blocks[at], entry)
        tail = chain(islice(self._blocks[at], inside, None), *self._blocks[at + 1 :])
        return list(islice(tail, count))

    def replace(self, entries: Iterable[_T]) -> None:
        """Hold these instead."""
        ordered = sorted(entries)
        self._size = len(ordered)
        self._blocks = [ordered[at : at + BLOCK] for at in range(0, len(ordered), BLOCK)]
        self._lasts = [block[-1] for block in self._blocks]

    def _find(self, entry: _T) -> tuple[int, int]:
        at = bisect_left(self._lasts, entry)
        if at < len(self._blocks):
            inside = bisect_left(self._blocks[at], entry)
            if self._blocks[at][inside] == entry:
                return at, inside
        raise KeyError(entry)
