"""The last values of something, in ascending order. No clock: times come with the values."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque


class SortedWindow:
    """The last `size` values that are at most `age_s` older than the latest.

    `ascending` holds them sorted, for quantiles; a plain attribute that only this class changes.
    """

    def __init__(self, *, size: int, age_s: float = math.inf) -> None:
        self.ascending: list[float] = []
        self._seen: deque[tuple[float, float]] = deque()  # (when, value)
        self._size = size
        self._age_s = age_s

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, value: float, *, now: float = 0.0) -> None:
        """A value was seen; who is too old or one too many leaves the window. O(log n) and a move.

        `value` may be infinite but not NaN, which has no place among others.
        """
        seen = self._seen
        seen.append((now, value))
        insort(self.ascending, value)
        while len(seen) > self._size or now - seen[0][0] > self._age_s:
            del self.ascending[bisect_left(self.ascending, seen.popleft()[1])]
