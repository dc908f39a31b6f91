"""What one output token takes, learned from the stream: a + b x requests in flight. No clock."""

from __future__ import annotations

from typing import Final

DECODE_WINDOW: Final = 2048  # observations, of about 16 tokens each
PREFILL_WINDOW: Final = 256  # first tokens
MIN_DECODES: Final = 16
MIN_PREFILLS: Final = 16
# A slope is believed once the number in flight has varied; until then the line goes through the
# origin. That is the steepest slope there is, so a correction by it comes short and never over.
PRIOR_WEIGHT: Final = 8.0
# An observation counts up to so many mean deviations above what was expected: a hiccup of seconds
# must not pass for the engine's speed, a burst of prefills must.
CLIP_DEVIATIONS: Final = 6.0
FIRST_DEVIATION: Final = 0.5  # all relative
LEAST_DEVIATION: Final = 0.1
DEVIATION_WINDOW: Final = 256


class Line:
    """A straight line through decayed, weighted points; old points fade with a window of `window`.

    Decayed least squares. `prior_weight` points' worth of doubt pull the intercept to zero.
    """

    def __init__(self, *, window: float, prior_weight: float = 0.0) -> None:
        self._keep = 1 - 1 / window
        self._prior = prior_weight
        self._weight = 0.0
        self._mean_x = 0.0
        self._mean_y = 0.0
        self._var_x = 0.0
        self._cov = 0.0

    @property
    def mean_x(self) -> float:
        return self._mean_x

    @property
    def mean_y(self) -> float:
        return self._mean_y

    @property
    def slope(self) -> float:
        """At least 0; at most that of the line through the origin."""
        if self._mean_x <= 0 or self._mean_y <= 0:
            return 0.0
        doubt = self._prior / (self._weight + self._prior) if self._prior else 0.0
        pull = doubt * self._mean_x**2 + self._var_x
        if pull <= 0:
            return 0.0
        slope = (doubt * self._mean_x * self._mean_y + self._cov) / pull
        return min(max(slope, 0.0), self._mean_y / self._mean_x)

    def at(self, x: float) -> float:
        """The line's height at x."""
        return self._mean_y + self.slope * (x - self._mean_x)

    def add(self, x: float, y: float) -> None:
        """One more point."""
        old = self._weight * self._keep
        self._weight = old + 1
        share = 1 / self._weight
        dx, dy = x - self._mean_x, y - self._mean_y
        self._mean_x += share * dx
        self._mean_y += share * dy
        # Welford's update of the moments about the mean, with a fading past.
        self._var_x = (1 - share) * (self._var_x + share * dx * dx)
        self._cov = (1 - share) * (self._cov + share * dx * dy)


class StepCosts:
    """Seconds per output token by the number in flight, and per prompt token that is computed.

    What slows a token beside the batch itself (prompts of others in the same steps) is part of what
    is learned: it comes with the number in flight, too.
    """

    def __init__(self) -> None:
        self._decode = Line(window=DECODE_WINDOW, prior_weight=PRIOR_WEIGHT)
        self._prefill = Line(window=PREFILL_WINDOW)
        self._deviation = FIRST_DEVIATION
        self._decodes = 0
        self._prefills = 0

    @property
    def known(self) -> bool:
        """Enough answers were seen to say what a token takes."""
        return self._decodes >= MIN_DECODES

    @property
    def s_per_token_in_flight(self) -> float:
        """b: by how many seconds one more request in flight slows every token."""
        return self._decode.slope

    @property
    def s_per_prefill_token(self) -> float | None:
        """Seconds that one prompt token delays the first output token; None while unknown."""
        if self._prefills < MIN_PREFILLS or self._prefill.mean_x <= 0:
            return None
        return self._prefill.slope

    def token_s(self, in_flight: float) -> float:
        """Expected seconds per output token with so many in flight; 0 while nothing is known."""
        return max(self._decode.at(in_flight), 0.0)

    def observe_decode(self, token_s: float, *, in_flight: float) -> float:
        """A stretch of an answer took `token_s` a token. Returns what of it is believed."""
        if not token_s > 0 or not in_flight > 0:
            return max(token_s, 0.0)
        self._decodes += 1
        expected = self.token_s(in_flight)
        if self.known and expected > 0:
            off = token_s / expected - 1
            off = min(off, CLIP_DEVIATIONS * max(self._deviation, LEAST_DEVIATION))
            # Clipped too: a lasting change widens the bound step by step until it is believed.
            self._deviation += (abs(off) - self._deviation) / DEVIATION_WINDOW
            token_s = expected * (1 + off)
        self._decode.add(in_flight, token_s)
        return token_s

    def observe_first_token(self, seconds: float, *, prefill_tokens: int) -> None:
        """From the call of the engine to the first token it took so long."""
        if not seconds > 0 or prefill_tokens < 1:
            return
        self._prefills += 1
        usual = self._prefill.at(prefill_tokens)
        if self._prefills > MIN_PREFILLS and usual > 0:
            seconds = min(seconds, 4 * usual)  # one that had to wait inside the engine
        self._prefill.add(prefill_tokens, seconds)
