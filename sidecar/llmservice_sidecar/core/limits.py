"""How many may be in flight so that an output token takes no longer than wanted. No clock.

A feedback controller with a learned slope: what the last seconds took on average, T at n in flight,
and b, by which one more slows every token, say that the target is met at n + (target - T) / b. Its
fixed point is where the *measured* time meets the target, however wrong b is; b only paces it.
"""

from __future__ import annotations

import math
from typing import Final

from llmservice_sidecar.core.step_costs import StepCosts

# Within 3 % of the target nothing moves: measured means are not better than that.
TOLERANCE: Final = 0.03
# In observations per request in flight, each of about 16 tokens: what "now" is, and how long each
# step is watched before the next.
RECENT_ROUNDS: Final = 32
STEP_ROUNDS: Final = 8
# Closer than this it moves by single slots (of 32), however flat the model: a noisy mean would
# throw it about otherwise.
FAR: Final = 0.1
NEAR_STEP: Final = 1 / 32
# Lowered because it took too long: at once, to half at most. Raised: a step at a time, and each is
# measured before the next.
LARGEST_FALL: Final = 0.5
LARGEST_RISE: Final = 0.125
# Only what was seen counts: a limit that was never reached says nothing of itself.
NEARLY_FULL: Final = 0.9


class TimePerOutputTokenLimit:
    """The limit of slots for a target in seconds per output token; all slots without a target.

    Monotone in the target, within [1, slots]. It starts at all slots and learns down: nothing is
    known of the engine before it has worked. Load that comes and goes does not move it.
    """

    def __init__(self, *, slots: int, costs: StepCosts) -> None:
        self._slots = slots
        self._limit = slots
        self._costs = costs
        self._target_s: float | None = None
        self._token_s = 0.0  # of the last seconds
        self._in_flight = 0.0  # beside it
        self._seen = 0
        self._since_step = 0
        self._in_flight_sum = 0.0  # since the last step

    @property
    def limit_slots(self) -> int:
        return self._limit

    @property
    def costs(self) -> StepCosts:
        """What it has learned of the engine."""
        return self._costs

    @property
    def token_s(self) -> float | None:
        """Seconds per output token, now; None while nothing is known."""
        return self._token_s if self._costs.known else None

    def aim(self, target_s: float | None) -> None:
        """A new target; None lifts it. What was learned stays."""
        self._target_s = target_s
        if target_s is None:
            self._limit = self._slots

    def observe(self, token_s: float, *, in_flight: float) -> int:
        """A stretch of an answer took `token_s` a token. Returns the limit from now on."""
        believed_s = self._costs.observe_decode(token_s, in_flight=in_flight)
        rounds = max(self._in_flight, 1.0)
        # A plain mean until there are enough for a moving one.
        self._seen += 1
        share = max(1 / (RECENT_ROUNDS * rounds), 1 / self._seen)
        self._token_s += share * (believed_s - self._token_s)
        self._in_flight += share * (in_flight - self._in_flight)
        self._since_step += 1
        self._in_flight_sum += in_flight
        if self._since_step >= STEP_ROUNDS * rounds:
            self._step(full=self._in_flight_sum >= NEARLY_FULL * self._limit * self._since_step)
            self._since_step = 0
            self._in_flight_sum = 0.0
        return self._limit

    def _step(self, *, full: bool) -> None:
        target_s = self._target_s
        if target_s is None or not self._costs.known:
            return
        limit = self._limit
        expected_s = self._expected_s(limit)
        too_slow_s = target_s * (1 + TOLERANCE)
        if expected_s > too_slow_s:
            if full or self._token_s > too_slow_s:
                far = expected_s > target_s * (1 + FAR)
                step = limit * (LARGEST_FALL if far else NEAR_STEP)
                lowest = limit - max(1, int(step))
                self._limit = max(1, lowest, min(self._fits(target_s), limit - 1))
        elif full and self._expected_s(limit + 1) <= target_s:
            far = expected_s < target_s * (1 - FAR)
            step = limit * (LARGEST_RISE if far else NEAR_STEP)
            highest = limit + max(1, int(step))
            self._limit = min(self._slots, highest, max(self._fits(target_s), limit + 1))

    def _expected_s(self, in_flight: float) -> float:
        more = in_flight - self._in_flight
        return self._token_s + self._costs.s_per_token_in_flight * more

    def _fits(self, target_s: float) -> int:
        """The most that may be in flight by the model."""
        slope, spare_s = self._costs.s_per_token_in_flight, target_s - self._token_s
        if slope <= 0:
            return self._slots if spare_s >= 0 else 1
        more = min(max(spare_s / slope, -self._slots), self._slots)
        return math.floor(self._in_flight + more)
