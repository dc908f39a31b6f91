"""Who went ahead of whom. Counts in O(log n) comparisons from arrival numbers; knows no policy."""

from __future__ import annotations

from typing import Final

from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.core.sorted_blocks import SortedBlocks

NAMED_OVERTAKERS: Final = 8


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
        """A waiting request left the queue without running."""
        if not self._waiting.take(number):
            self._forget()

    def admit(
        self, number: int, request_id: RequestId, *, waited: bool
    ) -> tuple[int, int, tuple[RequestId, ...]]:
        """A request runs: how many earlier arrivals it has overtaken, and who has overtaken it."""
        if not waited:  # it is the latest: all who wait came before it
            overtook = len(self._waiting)
            if overtook:
                self._ahead.add((number, request_id))
            return overtook, 0, ()
        overtook = self._waiting.take(number)
        if overtook:
            count, first = self._ahead.add_below((number, request_id), NAMED_OVERTAKERS)
            return overtook, count, tuple([later_id for _, later_id in first])
        count, ids = self.of(number)
        self._forget()
        return 0, count, ids

    def of(self, number: int) -> tuple[int, tuple[RequestId, ...]]:
        """How many later arrivals have been admitted while it waited, and the first of their ids.

        The ids are in arrival order.
        """
        count, first = self._ahead.beyond((number + 1,), NAMED_OVERTAKERS)
        return count, tuple([request_id for _, request_id in first])

    def _forget(self) -> None:
        """The earliest has left: forget those for whom nobody is left whom they have overtaken."""
        if not self._waiting:
            self._ahead.replace(())
            return
        earliest = self._waiting.first()
        while self._ahead and self._ahead.first()[0] < earliest:
            self._ahead.drop_first()
