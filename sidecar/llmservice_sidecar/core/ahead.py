"""Who stands before whom, and why: counted turn after turn. Knows no gate."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from llmservice_sidecar.core.level import Rank, rank
from llmservice_sidecar.core.queue import Waiting
from llmservice_sidecar.core.room import Turn


class Ahead(NamedTuple):
    """How many stand before a request, each counted for one reason."""

    higher_priority: int = 0
    arrived_earlier: int = 0  # and have no larger key
    smaller_key: int = 0  # arrived later
    fair_share: int = 0  # of tenants that have been served less
    promoted: int = 0  # have waited beyond the promotion age
    unheld: int = 0  # of lower priorities, while the cap of its own holds it


class _Before:
    """Those of one priority who come before: arrival number, rank, promoted; by rank and number."""

    def __init__(self) -> None:
        self.all: list[tuple[int, Rank, bool]] = []
        self.promoted = 0
        self._numbers: list[int] = []
        self._ranks: list[Rank] = []

    def add(self, turn: Turn) -> None:
        """One more."""
        number, own = turn.item.number, rank(turn.item)
        self.all.append((number, own, turn.promoted))
        self.promoted += turn.promoted
        insort(self._numbers, number)
        insort(self._ranks, own)

    def split(self, item: Waiting) -> Ahead:
        """How many are before this one of the same priority, and why."""
        number, own = item.number, rank(item)
        smaller = bisect_left(self._ranks, own)
        if smaller == len(self.all):  # in the order of their keys, as they nearly always are
            earlier = bisect_left(self._numbers, number)
            return Ahead(arrived_earlier=earlier, smaller_key=smaller - earlier)
        earlier = sum(other < number and theirs < own for other, theirs, _ in self.all)
        promoted = sum(promoted and theirs > own for _, theirs, promoted in self.all)
        return Ahead(
            arrived_earlier=earlier,
            smaller_key=smaller - earlier,
            fair_share=len(self.all) - smaller - promoted,
            promoted=promoted,
        )


class AheadCounts:
    """Counts those who come before, for each who comes next."""

    def __init__(self) -> None:
        self._levels: dict[int, _Before] = {}

    def of_next(self, turn: Turn) -> Ahead:
        """Before the one whose turn is next."""
        priority = turn.item.request.priority
        own = self._levels.setdefault(priority, _Before())
        ahead = own.split(turn.item)
        own.add(turn)
        higher = [level for other, level in self._levels.items() if other > priority]
        lower = [level for other, level in self._levels.items() if other < priority]
        promoted = sum(level.promoted for level in lower)
        return ahead._replace(
            higher_priority=sum(len(level.all) for level in higher),
            promoted=ahead.promoted + promoted,
            unheld=sum(len(level.all) for level in lower) - promoted,
        )
