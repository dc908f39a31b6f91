"""Has the world changed? A cumulative sum of errors (E. S. Page, Biometrika 41, 1954, 100-115).

Only a shift of the mean error counts. Errors that grow without one are a stretch of harder
requests, as when topics come in runs: what was learned is as right as before.
"""

from __future__ import annotations

import math
from typing import Final

SETTLED: Final = 64  # outcomes before an error means anything
SLACK: Final = 0.5  # recent spreads: half of the shift that matters
BOUND: Final = 16.0  # recent spreads beyond the slack, summed: ten to twenty outcomes
LARGEST: Final = 2.0  # recent spreads: one error more than that is no more evidence
LEAST_SQUARE: Final = 0.25
LARGEST_SQUARE: Final = 9.0
PACE: Final = 1.0 / 64.0  # of the recent spread


class Drift:
    """Sums of standardised errors that are too high and too low. Deterministic."""

    def __init__(self) -> None:
        self._high = self._low = 0.0
        self._square = 1.0  # of recent errors, in the mean

    def noticed(self, error: float, *, outcomes: int) -> bool:
        """Whether the mean error has shifted, given one more error, in predicted deviations.

        `outcomes`: how many were learned from in this world.
        """
        recent = error / math.sqrt(max(self._square, LEAST_SQUARE))
        recent = max(-LARGEST, min(recent, LARGEST))
        self._high = max(0.0, self._high + recent - SLACK)
        self._low = max(0.0, self._low - recent - SLACK)
        self._square += PACE * (min(error * error, LARGEST_SQUARE) - self._square)
        if outcomes < SETTLED:
            self.restart()  # it is still finding its level
        return max(self._high, self._low) > BOUND

    def restart(self) -> None:
        """A new world. The spread stays: where errors are wild, wild errors are no news."""
        self._high = self._low = 0.0
