"""What ran beside a request on its pod: who took the slots while it waited, how fast others went.

Sorted by the time of the engine call, so that a look is at the few that can overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmservice_lab.analysis.columns import Columns, Mask, Vector

_LIKE: Final = 0.5  # a neighbour's gap of so much of one's own is the same event


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitWork:
    """Slot-seconds that the engine spent while a request waited.

    `concurrency`: slots in use, on average.
    """

    total: float
    by_overtakers: float  # arrived later, admitted earlier
    overtakers: int
    concurrency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The requests that generated while this one did; `share_with_gap` paused likewise."""

    count: int
    per_token_s: float | None
    share_with_gap: float


class Neighbours:
    """Looks up what ran beside a row of the columns."""

    def __init__(self, columns: Columns, *, judges: Mask | None = None) -> None:
        """`judges`: who counts as a neighbour (default: all)."""
        self._columns = columns
        self._per_token_s = columns.per_token_s
        self._by_pod: dict[int, npt.NDArray[np.intp]] = {}
        self._longest_s: dict[int, float] = {}
        ran = ~np.isnan(columns.called_s) & ~np.isnan(columns.engine_ended_s)
        if judges is not None:
            ran &= judges
        for pod in np.unique(columns.pod):
            rows = np.flatnonzero(ran & (columns.pod == pod))
            self._by_pod[int(pod)] = rows[np.argsort(columns.called_s[rows], kind="stable")]
            served = columns.service_s[rows]
            self._longest_s[int(pod)] = float(served.max()) if len(rows) else 0.0

    def while_waiting(self, row: int, start_s: float, end_s: float) -> WaitWork:
        """Who ran from `start_s` to `end_s` while this row waited."""
        columns = self._columns
        others = self._overlapping(row, start_s, end_s)
        called, ended = columns.called_s[others], columns.engine_ended_s[others]
        work = (np.minimum(ended, end_s) - np.maximum(called, start_s)) * columns.slots[others]
        later = columns.arrived_s[others] > columns.arrived_s[row]
        overtook = later & (called < end_s)
        total = float(work.sum())
        return WaitWork(
            total=total,
            by_overtakers=float(work[overtook].sum()),
            overtakers=int(overtook.sum()),
            concurrency=total / (end_s - start_s) if end_s > start_s else 0.0,
        )

    def beside(self, row: int) -> Beside:
        """Who generated while this row did."""
        columns = self._columns
        first_s, end_s = columns.first_s[row], columns.engine_ended_s[row]
        if np.isnan(first_s):
            return Beside(count=0, per_token_s=None, share_with_gap=0.0)
        others = self._overlapping(row, first_s, end_s)
        generating = (columns.first_s[others] < end_s) & (self._per_token_s[others] > 0)
        others = others[generating]
        if not len(others):
            return Beside(count=0, per_token_s=None, share_with_gap=0.0)
        gap_s = columns.gap_s[row]
        # Only who was there for most of the time can tell whether everybody paused.
        overlap = np.minimum(columns.engine_ended_s[others], end_s) - np.maximum(
            columns.first_s[others], first_s
        )
        long_enough = others[overlap >= _LIKE * (end_s - first_s)]
        judges = long_enough if len(long_enough) else others
        with_gap: Vector = columns.gap_s[judges] >= _LIKE * gap_s
        return Beside(
            count=len(others),
            per_token_s=float(np.median(self._per_token_s[judges])),
            share_with_gap=float(with_gap.mean()),
        )

    def _overlapping(self, row: int, start_s: float, end_s: float) -> npt.NDArray[np.intp]:
        columns = self._columns
        pod = int(columns.pod[row])
        rows = self._by_pod[pod]
        called = columns.called_s[rows]
        low = np.searchsorted(called, start_s - self._longest_s[pod])
        high = np.searchsorted(called, end_s)
        near = rows[low:high]
        return near[(columns.engine_ended_s[near] > start_s) & (near != row)]
