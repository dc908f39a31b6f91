"""Who went ahead of whom. Counts in O(log n) comparisons from arrival numbers; knows no policy."""

from __future__ import annotations

from operator import itemgetter
from typing import Final

from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.core.sorted_blocks import SortedBlocks

NAMED_OVERTAKERS: Final = 8
_ID: Final = itemgetter(1)


class Overtaking:
    """Keeps the arrival numbers of those who wait, and of later arrivals admitted meanwhile."""

    def __init__(self) -> None:
        self._waiting: SortedBlocks[int] = SortedBlocks()
        # Admitted while an earlier one still waits.
        self._ahead: SortedBlocks[tuple[int, RequestId]] = SortedBlocks()

    def wait(self, number: int) -> None:
        """A request is queued under its arrival number."""
        self._waiting.add(number)

    def depart(self, number: int) -> None:
        """A waiting request left the queue, by admission or otherwise."""
        self._waiting.remove(number)
        if not self._waiting:
            self._ahead.replace(())
            return
        earliest = self._waiting.first()
        while self._ahead and self._ahead.first()[0] < earliest:
            self._ahead.remove(self._ahead.first())  # nobody is left whom it has overtaken

    def overtakes(self, number: int) -> int:
        """How many earlier arrivals still wait."""
        return self._waiting.rank(number)

    def went_ahead(self, number: int, request_id: RequestId) -> None:
        """A request was admitted while earlier arrivals still wait."""
        self._ahead.add((number, request_id))

    def of(self, number: int) -> tuple[int, tuple[RequestId, ...]]:
        """How many later arrivals have been admitted while it waited, and the first of their ids.

        Ask before it departs. The ids are in arrival order.
        """
        later = (number + 1,)
        count = len(self._ahead) - self._ahead.rank(later)
        if not count:
            return 0, ()
        return count, tuple(map(_ID, self._ahead.start(later, NAMED_OVERTAKERS)))
