"""A sorted list cut into blocks: O(log n) comparisons, and memory moves bounded by a block.

One list would move up to 8 bytes x n for each change, which shows beyond ten thousand entries.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import chain
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
        at = bisect_left(self._lasts, entry)
        if at < len(self._lasts):
            block = self._blocks[at]
            insort(block, entry)
        elif at:
            at -= 1
            block = self._blocks[at]
            block.append(entry)
            self._lasts[at] = entry
        else:
            self._blocks.append([entry])
            self._lasts.append(entry)
            return
        if len(block) > 2 * BLOCK:
            self._split(at)

    def add_below(self, entry: _T, count: int) -> tuple[int, list[_T]]:
        """Put an entry in its place; how many are larger, and the first `count` of them."""
        at = bisect_left(self._lasts, entry)
        if at == len(self._lasts):
            self.add(entry)
            return 0, []
        block = self._blocks[at]
        inside = bisect_left(block, entry)
        larger = self._from(at, inside, count)
        block.insert(inside, entry)
        self._size += 1
        if len(block) > 2 * BLOCK:
            self._split(at)
        return larger

    def remove(self, entry: _T) -> None:
        """Take an entry out. Raises KeyError if it is not here."""
        self._cut(entry)

    def drop_first(self) -> None:
        """Take the smallest entry out. Raises IndexError when there is none."""
        block = self._blocks[0]
        del block[0]
        self._size -= 1
        if not block:
            del self._blocks[0], self._lasts[0]

    def take(self, entry: _T) -> int:
        """Take an entry out; returns how many are smaller. Raises KeyError if it is not here."""
        at, inside = self._cut(entry)
        return sum(map(len, self._blocks[:at])) + inside

    def rank(self, entry: Any) -> int:
        """How many entries are smaller; `entry` need not be here: a tuple's beginning will do."""
        at = bisect_left(self._lasts, entry)
        if at == len(self._blocks):
            return self._size
        return sum(map(len, self._blocks[:at])) + bisect_left(self._blocks[at], entry)

    def beyond(self, entry: Any, count: int) -> tuple[int, list[_T]]:
        """How many entries are not smaller than `entry`, and the first `count` of them."""
        at = bisect_left(self._lasts, entry)
        if at == len(self._blocks):
            return 0, []
        return self._from(at, bisect_left(self._blocks[at], entry), count)

    def _split(self, at: int) -> None:
        """Cut a block that has grown too long in two."""
        block = self._blocks[at]
        self._blocks.insert(at + 1, block[BLOCK:])
        del block[BLOCK:]
        self._lasts.insert(at, block[-1])

    def _from(self, at: int, inside: int, count: int) -> tuple[int, list[_T]]:
        """How many stand from this place of this block on, and the first `count` of them."""
        block = self._blocks[at]
        found = block[inside : inside + count]
        after = at + 1
        while len(found) < count and after < len(self._blocks):
            found += self._blocks[after][: count - len(found)]
            after += 1
        return len(block) - inside + sum(map(len, self._blocks[at + 1 :])), found

    def replace(self, entries: Iterable[_T]) -> None:
        """Hold these instead."""
        ordered = sorted(entries)
        self._size = len(ordered)
        self._blocks = [ordered[at : at + BLOCK] for at in range(0, len(ordered), BLOCK)]
        self._lasts = [block[-1] for block in self._blocks]

    def _cut(self, entry: _T) -> tuple[int, int]:
        """Take it out; returns in which block it was, and where in there."""
        at = bisect_left(self._lasts, entry)
        if at < len(self._blocks):
            block = self._blocks[at]
            inside = bisect_left(block, entry)
            if block[inside] == entry:
                del block[inside]
                self._size -= 1
                if block:
                    self._lasts[at] = block[-1]
                else:
                    del self._blocks[at], self._lasts[at]
                return at, inside
        raise KeyError(entry)
