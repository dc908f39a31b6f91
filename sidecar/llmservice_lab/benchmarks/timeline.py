"""A run over time: one burst into an idle server, and what the server looks like every 10 s."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

from llmservice_lab.results import RequestRecord

BIN_S: Final = 10.0
BEFORE_S: Final = 300.0
AFTER_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleBurst:
    """300 s of load `before`, `seconds` at `peak`, 300 s of load `after`; multiples of capacity.

    With `before` 0 the server is cold: nothing has been served, no cost is known.
    """

    peak: float
    seconds: float
    before: float
    after: float

    @property
    def starts_s(self) -> float:
        return BEFORE_S if self.before > 0 else 0.0

    def times(self, capacity_rps: float, *, rng: random.Random) -> list[float]:
        """Arrival times of Poisson processes at these rates."""
        begins, ends = self.starts_s, self.starts_s + self.seconds
        return [
            *_poisson(self.before * capacity_rps, 0.0, begins, rng=rng),
            *_poisson(self.peak * capacity_rps, begins, ends, rng=rng),
            *_poisson(self.after * capacity_rps, ends, ends + AFTER_S, rng=rng),
        ]


class Timeline(TypedDict):
    """Figures of bins of 10 s, and of the burst's own requests."""

    mean_e2e_s: list[float | None]  # of requests that arrived in the bin
    waiting: list[int]  # at the end of the bin
    burst_mean_e2e_s: float
    burst_p99_e2e_s: float
    burst_requests: int
    recovered_s: float  # from the burst's end until nobody waits for the first time


def timeline_of(records: Sequence[RequestRecord], burst: SingleBurst) -> Timeline:
    """Everything completed, as in the simulator without a bound on the queue."""
    ends_s = burst.starts_s + burst.seconds
    own = sorted(_e2e(r) for r in records if burst.starts_s <= r.arrival_s < ends_s)
    bins = range(int(max(record.arrival_s for record in records) // BIN_S) + 1)
    arrived: list[list[float]] = [[] for _ in bins]
    for record in records:
        arrived[int(record.arrival_s // BIN_S)].append(_e2e(record))
    depth = _depth(records)
    moments = [moment for moment, _ in depth]
    return Timeline(
        mean_e2e_s=[sum(each) / len(each) if each else None for each in arrived],
        waiting=[depth[bisect_right(moments, (at + 1) * BIN_S) - 1][1] for at in bins],
        burst_mean_e2e_s=sum(own) / len(own),
        burst_p99_e2e_s=own[int(0.99 * len(own))],
        burst_requests=len(own),
        recovered_s=next((moment for moment, n in depth if moment >= ends_s and n == 0), ends_s)
        - ends_s,
    )


def _depth(records: Sequence[RequestRecord]) -> list[tuple[float, int]]:
    """How many wait from each moment on, ascending, from 0 s."""
    steps = [(record.arrival_s, 1) for record in records]
    steps += [(record.admitted_s, -1) for record in records if record.admitted_s is not None]
    # At one moment arrivals first: who is admitted at once has not waited.
    steps.sort(key=lambda step: (step[0], -step[1]))
    waiting, depth = 0, [(0.0, 0)]
    for moment, change in steps:
        waiting += change
        depth.append((moment, waiting))
    return depth


def _e2e(record: RequestRecord) -> float:
    if record.finished_s is None:
        raise RuntimeError(f"the request that arrived at {record.arrival_s} s never finished")
    return record.finished_s - record.arrival_s


def _poisson(rate: float, begins: float, ends: float, *, rng: random.Random) -> Iterator[float]:
    moment = begins
    while rate > 0 and (moment := moment + rng.expovariate(rate)) < ends:
        yield moment
