"""Admit while what runs will fit into the engine's KV cache, to the 90 % quantile.

Beyond it the engine preempts and computes again what it had. The rule knows tokens, never slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from llmservice_sidecar.core.admission.memory import Occupant, peak_tokens
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.rules import Running

# For what the forecast leaves out: half-filled blocks, the engine's own watermark.
MARGIN: Final = 0.1
# A length beyond its mean has this share of (p90 - mean) to go, whatever it has come to: 0.77 for
# an exponential distribution, 0.62 for a normal one just past its mean.
BEYOND_MEAN: Final = 0.7
# Who outlives even that is of a heavier tail: the remainder grows with the age.
SPREAD_PER_GENERATED: Final = 0.25
DECAY_PER_COMPLETION: Final = 1 / 256
MIN_COMPLETIONS: Final = 8


class KvForecast:
    """Admits while peak(mean remainders) + their joint spread <= capacity x (1 - margin).

    The spread of one remainder is p90 - mean; those of independent requests add in squares: the sum
    of all p90 would keep a third of the cache empty. Predictions are scaled by what finished
    requests have really produced, so a predictor's constant bias cancels. A request that finds
    nothing running is always admitted: if it does not fit alone, only the engine can say so.
    """

    def __init__(self, *, capacity_tokens: int | None = None, margin: float = MARGIN) -> None:
        if not 0 <= margin < 1:
            raise ValueError(f"margin is {margin}, must be in [0, 1)")
        self._margin = margin
        self.capacity_tokens = capacity_tokens  # None: not known, admits everything
        self._blocked = False
        self._completions = 0
        self._actual_tokens = 0.0
        self._predicted_tokens = 0.0

    @property
    def blocked(self) -> bool:
        """The last request asked for was refused."""
        return self._blocked

    @property
    def bias(self) -> float:
        """Actual over predicted tokens of finished requests; 1 before enough have finished."""
        if self._completions < MIN_COMPLETIONS or self._predicted_tokens <= 0:
            return 1.0
        return self._actual_tokens / self._predicted_tokens

    def observe(self, request: Request, *, output_tokens: int) -> None:
        """A request is complete with so many tokens over all its answers."""
        keep = 1 - DECAY_PER_COMPLETION
        self._actual_tokens = self._actual_tokens * keep + output_tokens
        self._predicted_tokens = self._predicted_tokens * keep + request.predicted_tokens
        self._completions += 1

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        """Would all of them still fit when they need the most? O(n log n), O(n) with room."""
        if self.capacity_tokens is None or not running:
            self._blocked = False
            return True
        budget = self.capacity_tokens * (1 - self._margin)
        bias = self.bias
        shares = [_share(request, 0, bias=bias)]
        shares += [_share(item.request, item.generated, bias=bias) for item in running]
        spread = math.sqrt(sum(spread**2 for _, spread in shares))
        occupants = [occupant for occupant, _ in shares]
        # If nobody ended before the last one: above every peak, and cheaper.
        most = sum(item.used_tokens + item.left_tokens * item.sequences for item in occupants)
        self._blocked = most + spread > budget and peak_tokens(occupants) + spread > budget
        return not self._blocked


def _share(request: Request, generated: int, *, bias: float) -> tuple[Occupant, float]:
    """What a request holds and will ask for, and the spread of the latter over all sequences."""
    sequences = request.slots
    done = generated / sequences
    bound = math.inf if request.max_tokens is None else max(request.max_tokens - done, 0.0)
    mean, spread = _scaled(request, bias=bias)
    if done > mean:
        spread = max(spread, SPREAD_PER_GENERATED * done)
    left = min(max(mean - done, BEYOND_MEAN * spread), bound)
    spread = min(spread, bound - left)
    used = request.prompt_tokens + request.generated_tokens + generated
    return Occupant(left, used, sequences), spread * sequences


def _scaled(request: Request, *, bias: float) -> tuple[float, float]:
    """Mean and p90 - mean of one answer's tokens, by what predictions have turned out to mean."""
    mean = request.predicted_tokens / request.slots  # finite, whatever the predictor said
    upper = request.prediction.p90_tokens
    spread = upper - mean if math.isfinite(upper) else 0.0
    return mean * bias, max(spread, 0.0) * bias
