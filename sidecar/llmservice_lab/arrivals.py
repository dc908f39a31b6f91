"""When requests arrive: recorded, Poisson, Gamma or in bursts. Pure; randomness is an argument."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Recorded:
    """The recording's own times, stretched to the wanted rate; repeated when too short."""


@dataclass(frozen=True, slots=True)
class Gamma:
    """Independent gaps with this coefficient of variation; 1 is Poisson."""

    cv: float = 1.0


@dataclass(frozen=True, slots=True)
class Burst:
    """Poisson at the base rate, at `peak` x capacity in the last `seconds` of every `every` s."""

    peak: float
    seconds: float
    every: float


Arrivals: TypeAlias = Recorded | Gamma | Burst

_ALLOWED: Final = "recorded | poisson | gamma:CV | burst:PEAK,SECONDS,EVERY"


def parse_arrivals(text: str) -> Arrivals:
    """`recorded`, `poisson`, `gamma:3`, `burst:1.5,60,600`. Raises ValueError: what is allowed."""
    kind, _, rest = text.partition(":")
    try:
        values = [float(part) for part in rest.split(",")] if rest else []
    except ValueError as error:
        raise ValueError(f"arrivals {text!r} is not known; allowed: {_ALLOWED}") from error
    match kind, values:
        case "recorded", []:
            return Recorded()
        case "poisson", []:
            return Gamma()
        case "gamma", [cv] if cv > 0:
            return Gamma(cv)
        case "burst", [peak, seconds, every] if peak > 0 and 0 < seconds < every:
            return Burst(peak, seconds, every)
        case _:
            raise ValueError(
                f"arrivals {text!r} is not known; allowed: {_ALLOWED} (all numbers above 0, "
                "SECONDS below EVERY)"
            )


def arrival_times(
    arrivals: Arrivals,
    recorded_s: Sequence[float],
    *,
    rate_per_s: float | None,
    capacity_per_s: float,
    rng: random.Random,
) -> list[float]:
    """Ascending times from 0, as many as were recorded. Without a rate: the recording's own.

    Raises ValueError when neither is known: all recorded at one moment, and no rate given.
    """
    span_s = recorded_s[-1] - recorded_s[0]
    count = len(recorded_s)
    if rate_per_s is None and span_s <= 0 and not isinstance(arrivals, Recorded):
        raise ValueError(
            "all requests were recorded at the same moment: give a load to space them by"
        )
    match arrivals:
        case Recorded():
            stretch = 1.0
            if rate_per_s is not None and span_s > 0:
                stretch = (count - 1) / span_s / rate_per_s
            return [(time_s - recorded_s[0]) * stretch for time_s in recorded_s]
        case Gamma(cv):
            rate = rate_per_s or (count - 1) / span_s
            shape = 1 / cv**2
            return _sums(rng.gammavariate(shape, 1 / (shape * rate)) for _ in range(count))
        case Burst():
            rate = rate_per_s or (count - 1) / span_s
            return _bursts(arrivals, count, rate, arrivals.peak * capacity_per_s, rng=rng)


def repeat(recorded_s: Sequence[float], count: int) -> list[float]:
    """`count` times: the recording over and over, a mean gap between two rounds."""
    span_s = recorded_s[-1] - recorded_s[0]
    period_s = span_s * len(recorded_s) / max(len(recorded_s) - 1, 1)
    size = len(recorded_s)
    return [recorded_s[i % size] - recorded_s[0] + i // size * period_s for i in range(count)]


def _sums(gaps: Iterable[float]) -> list[float]:
    return list(itertools.accumulate(gaps))


def _bursts(
    burst: Burst, count: int, base_per_s: float, peak_per_s: float, *, rng: random.Random
) -> list[float]:
    # A unit-rate Poisson process, mapped through the inverse of the expected number of arrivals.
    quiet_s = burst.every - burst.seconds
    in_quiet = quiet_s * base_per_s
    in_period = in_quiet + burst.seconds * peak_per_s
    times: list[float] = []
    expected = 0.0
    for _ in range(count):
        expected += rng.expovariate(1.0)
        periods, rest = divmod(expected, in_period)
        within_s = (
            rest / base_per_s if rest < in_quiet else quiet_s + (rest - in_quiet) / peak_per_s
        )
        times.append(periods * burst.every + within_s)
    return times
