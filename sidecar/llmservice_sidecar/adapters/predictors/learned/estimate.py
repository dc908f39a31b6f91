"""A predicted log length, and what an answer that was cut tells about it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

LONGEST_LOG: Final = 14.0  # e^14: over a million tokens
TOLD_NOTHING: Final = 0.75  # a cut answer that was that likely to go on teaches nothing
LEAST_SURVIVAL: Final = 1e-6

_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A distribution of ln(output tokens): mean and standard deviation."""

    mean: float
    deviation: float


def expected_beyond(before: Estimate, log_cut: float) -> float | None:
    """The log length to learn from an answer that was cut: its expectation given that it went on.

    None when the cut tells nothing: so early that nearly any answer would have gone on.
    """
    z = (log_cut - before.mean) / before.deviation
    going_on = 1.0 - _NORMAL.cdf(z)
    if going_on > TOLD_NOTHING:
        return None
    if going_on < LEAST_SURVIVAL:
        return min(log_cut, LONGEST_LOG)
    return min(before.mean + before.deviation * _NORMAL.pdf(z) / going_on, LONGEST_LOG)


def drawn_beyond(before: Estimate, log_cut: float, *, level: float) -> float:
    """The quantile `level` (0..1) of the log length of an answer that was cut but went on."""
    going_on = 1.0 - _NORMAL.cdf((log_cut - before.mean) / before.deviation)
    if going_on < LEAST_SURVIVAL:
        return min(log_cut, LONGEST_LOG)
    share = max(LEAST_SURVIVAL / 2.0, (1.0 - level) * going_on)
    return min(before.mean + before.deviation * _NORMAL.inv_cdf(1.0 - share), LONGEST_LOG)
