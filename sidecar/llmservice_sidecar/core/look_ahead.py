"""How many requests to send ahead of a free slot, where the news of one takes time. No clock."""

from __future__ import annotations

import math
from typing import Final

RATE_WINDOW_S: Final = 10.0


def look_ahead_slots(*, completions_per_s: float, notice_delay_s: float) -> int:
    """ceil(m + 2 sqrt(m)), m = completions during one notice delay; 0 without a delay.

    m slots fall free unnoticed on average; two standard deviations of a Poisson number keep the
    others from idling too. Each one sent ahead is one that can no longer be overtaken.
    """
    unnoticed = completions_per_s * notice_delay_s
    if not unnoticed > 0:
        return 0
    return math.ceil(unnoticed + 2 * math.sqrt(unnoticed))


class LookAhead:
    """Completions per second over about the last ten, and what follows for the look-ahead."""

    def __init__(self, *, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._completions = 0.0
        self._at = 0.0

    def completed(self, *, now: float) -> None:
        """The engine has finished a request."""
        self._completions = self._decayed(now) + 1
        self._at = now

    def completions_per_s(self, *, now: float) -> float:
        """The rate now."""
        return self._decayed(now) / self._window_s

    def slots(self, *, notice_delay_s: float, now: float) -> int:
        """How many more than its slots the engine should have."""
        rate = self.completions_per_s(now=now)
        return look_ahead_slots(completions_per_s=rate, notice_delay_s=notice_delay_s)

    def _decayed(self, now: float) -> float:
        return self._completions * math.exp(-max(now - self._at, 0.0) / self._window_s)
