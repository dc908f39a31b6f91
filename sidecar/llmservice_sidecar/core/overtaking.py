"""Who went ahead of whom. Counts in O(log n) comparisons from arrival numbers; knows no policy."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from operator import itemgetter
from typing import Final

from llmservice_sidecar.core.request import RequestId

NAMED_OVERTAKERS: Final = 8


class Overtaking:
    """Keeps the arrival numbers of those who wait, and of later arrivals admitted meanwhile."""

    def __init__(self) -> None:
        self._waiting: list[int] = []  # ascending: arrival numbers only grow
        self._ahead: list[tuple[int, RequestId]] = []  # admitted while an earlier one still waits

    def wait(self, number: int) -> None:
        """The latest arrival is queued."""
        self._waiting.append(number)

    def depart(self, number: int) -> None:
        """A waiting request left the queue, by admission or otherwise."""
        del self._waiting[bisect_left(self._waiting, number)]
        if not self._waiting:
            self._ahead.clear()
        elif self._ahead and self._ahead[0][0] < self._waiting[0]:
            # Nobody is left whom these have overtaken.
            del self._ahead[: bisect_left(self._ahead, self._waiting[0], key=itemgetter(0))]

    def admit(self, number: int, request_id: RequestId) -> int:
        """Note an admission; returns how many earlier arrivals still wait."""
        overtook = bisect_left(self._waiting, number)
        if overtook:
            insort(self._ahead, (number, request_id))
        return overtook

    def of(self, number: int) -> tuple[int, tuple[RequestId, ...]]:
        """How many later arrivals have been admitted while it waited, and the first of their ids.

        Ask before it departs. The ids are in arrival order.
        """
        first = bisect_right(self._ahead, number, key=itemgetter(0))
        ids = self._ahead[first : first + NAMED_OVERTAKERS]
        return len(self._ahead) - first, tuple(request_id for _, request_id in ids)
