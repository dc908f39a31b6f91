"""What other replicas told one head: kept as it came, in few bytes, and as one sum.

After a change of the world, what was told of the old one must not come back with the next message,
for a replica tells all that it knows again and again. So a lesson is refused then until its teller
has noticed the change as well, has begun anew, or has learned as much again.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.adapters.predictors.learned.lesson import FORGET, Lesson, weight
from llmservice_sidecar.adapters.predictors.learned.packing import Packed, unpack
from llmservice_sidecar.adapters.predictors.learned.regression import Evidence

TOGETHER: Final = 512  # own outcomes: a change that another noticed so shortly before is the same
AS_MUCH_AGAIN: Final = 2  # times what was told of the old world: most is of the new one by now
MAX_STALE: Final = 64

Sums = tuple[Evidence, ...]  # in the order of `Head.regressions`


@dataclass(frozen=True, slots=True)
class _Kept:
    packed: Packed
    share: float  # what is not forgotten of it
    changed_at: int | None  # own outcomes when its teller was seen to begin anew


@dataclass(frozen=True, slots=True)
class Merged:
    """What `Told.merging` came to."""

    news: dict[str, Packed | None]
    lessons: dict[str, Lesson]  # of the news
    sums: Sums | None


class Told:
    """Lessons of other replicas by their identity. Not thread-safe.

    `inherited`: what a snapshot held of replicas; a living one's word goes before it.
    """

    def __init__(self) -> None:
        self.inherited: dict[str, Packed] = {}
        self.sums: Sums | None = None  # None: nobody told anything
        self._kept: dict[str, _Kept] = {}
        self._stale: dict[str, tuple[int, int]] = {}  # epoch and outcomes
        self._version = 0

    @property
    def outcomes(self) -> float:
        """That all lessons together rest on, as far as they are not forgotten."""
        return sum(weight(kept.packed.samples) * kept.share for kept in self._kept.values())

    def __contains__(self, teller: str) -> bool:
        return teller in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def by(self, teller: str) -> Packed | None:
        """What a replica told, as it came."""
        kept = self._kept.get(teller)
        return None if kept is None else kept.packed

    def merging(self, told: Mapping[str, Packed | None]) -> Generator[None, None, Merged | None]:
        """What there is with `told`, a lesson a step; None: nothing new. It changes nothing yet.

        Raises ValueError for what cannot be believed.
        """
        while True:
            version, news = self._version, self._news(told)
            if not news:
                return None
            sums: Sums | None = None
            for teller, kept in list(self._kept.items()):
                if teller not in news:
                    sums = _plus(sums, unpack(kept.packed).times(kept.share))
                    yield
            lessons: dict[str, Lesson] = {}
            for teller, packed in news.items():
                if packed is not None:
                    lessons[teller] = unpack(packed)
                    sums = _plus(sums, lessons[teller])
                    yield
            if version == self._version:  # else it has changed between two steps
                return Merged(news, lessons, sums)

    def replace(self, merged: Merged, *, outcomes: int) -> None:
        """Keep the news in place of what the same replicas had told, and the sum with them.

        `outcomes`: own ones so far.
        """
        for teller, packed in merged.news.items():
            last = self._kept.pop(teller, None)
            if packed is None:
                continue
            changed_at = None if last is None else last.changed_at
            if last is not None and _begun_anew(packed, last.packed.epoch, last.packed.samples):
                changed_at = outcomes
            self._kept[teller] = _Kept(packed, 1.0, changed_at)
            self._stale.pop(teller, None)
        self.sums = merged.sums
        self._version += 1

    def restart(self, *, outcomes: int) -> None:
        """The world has changed: what was told of the old one counts no more."""
        for teller, kept in self._kept.items():
            at = kept.changed_at
            if at is None or outcomes - at > TOGETHER:
                self._stale[teller] = (kept.packed.epoch, kept.packed.samples)
        while len(self._stale) > MAX_STALE:
            del self._stale[next(iter(self._stale))]
        self._kept.clear()
        self.inherited.clear()
        self.sums = None
        self._version += 1

    def fade(self) -> None:
        """Forget as much of it as of one's own."""
        self._kept = {
            teller: _Kept(kept.packed, kept.share * FORGET, kept.changed_at)
            for teller, kept in self._kept.items()
        }
        if self.sums is not None:
            self.sums = tuple(part.times(FORGET) for part in self.sums)
        self._version += 1

    def _news(self, told: Mapping[str, Packed | None]) -> dict[str, Packed | None]:
        """What changes anything; without a living one's word, what was inherited of it counts."""
        found: dict[str, Packed | None] = {}
        for teller, said in told.items():
            packed = self.inherited.get(teller) if said is None else said
            last = self.by(teller)
            if packed is None:
                if last is not None:
                    found[teller] = None
            elif not self._is_stale(teller, packed) and (last is None or not last.same(packed)):
                found[teller] = packed
        return found

    def _is_stale(self, teller: str, packed: Packed) -> bool:
        old = self._stale.get(teller)
        return old is not None and not (
            _begun_anew(packed, *old) or packed.samples >= AS_MUCH_AGAIN * old[1]
        )


def _begun_anew(packed: Packed, epoch: int, samples: int) -> bool:
    return packed.epoch != epoch or packed.samples < samples


def _plus(sums: Sums | None, lesson: Lesson) -> Sums:
    if sums is None:
        return lesson.parts
    return tuple(mine.plus(its) for mine, its in zip(sums, lesson.parts, strict=True))
