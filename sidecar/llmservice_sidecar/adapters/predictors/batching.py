"""How many queries a model is asked at once: as many as it answers in the time there is."""

from __future__ import annotations

from typing import Final

MAX_BATCH: Final = 32
_KEEP: Final = 7 / 8  # weight of the past when one more batch has been timed


class BatchSize:
    """Learns the seconds per query from batches that were timed.

    A model that gains nothing from batches would make the first of a batch wait for the last: so a
    batch is never larger than what fits the time. Small until something is known.
    """

    def __init__(self, *, within_s: float) -> None:
        self._within_s = within_s
        self._per_query_s: float | None = None

    @property
    def queries(self) -> int:
        """The size of the next batch, 1 to MAX_BATCH."""
        if self._per_query_s is None:
            return 1
        if self._per_query_s * MAX_BATCH <= self._within_s:
            return MAX_BATCH
        return max(1, int(self._within_s / self._per_query_s))

    def took(self, duration_s: float, *, queries: int) -> None:
        """A batch of so many queries was answered in so many seconds."""
        each_s = max(duration_s, 0.0) / queries
        before = each_s if self._per_query_s is None else self._per_query_s
        self._per_query_s = _KEEP * before + (1 - _KEEP) * each_s
