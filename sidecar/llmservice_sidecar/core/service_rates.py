"""What a token costs here, learned from finished requests. Decayed sums, no clock.

The rate of decode is observed seconds over *predicted* tokens: a predictor that is off by a
constant factor gives the same costs as an unbiased one. The rate of prefill is the slope of the
time to first token over the prompt tokens computed, times the requests that it delays meanwhile.
"""

from __future__ import annotations

from typing import Final

from llmservice_sidecar.core.costs import PREFILL_WEIGHT, ServiceCosts
from llmservice_sidecar.core.rules import Running

MEAN_MOVED: Final = 0.2
REFRESH_COMPLETIONS: Final = 8  # nothing is known before the first eight
DECAY_PER_COMPLETION: Final = 1 / 256
# The slope is noisy (a first token waits for the step that runs): it starts as if so many samples
# had shown the prior.
PRIOR_SAMPLES: Final = 32


class ServiceRates:
    """Learns what a request costs from those that are finished.

    `costs`: seconds of a slot per predicted token, prompt token and step; None before the first
    completions. `mean_cost_s`: slot-seconds of a request on average, as served, 0 before anything
    is known. Within a fifth it stands still: it swings with what is served, and gamma with it.
    """

    def __init__(self) -> None:
        # Plain attributes: the gate asks for them several times a request.
        self.costs: ServiceCosts | None = None
        self.mean_cost_s = 0.0
        self._completions = 0
        self._weight = 0.0  # of the completions in the sums
        self._service_s = 0.0
        self._predicted_tokens = 0.0
        self._output_tokens = 0.0
        self._first_tokens = _Moments()

    def first_token(self, running: Running, *, now: float, beside: int) -> None:
        """The first token of an answer came, with `beside` slots in flight."""
        prefill_tokens = float(running.request.prefill_tokens)
        self._first_tokens.add(prefill_tokens, now - running.admitted_at, beside=beside)

    def finished(self, running: Running, *, output_tokens: int, now: float) -> None:
        """An answer is complete after so many tokens."""
        # Without a sign of the first token (an answer in one piece) admission is the best start.
        start = running.admitted_at if running.first_token_at is None else running.first_token_at
        self.observe(
            (now - start) * running.request.slots,
            predicted_tokens=running.request.predicted_tokens,
            output_tokens=output_tokens,
        )

    def observe(self, service_s: float, *, predicted_tokens: float, output_tokens: float) -> None:
        """Slot-seconds of service beside the tokens that were predicted, and those that came."""
        keep = 1 - DECAY_PER_COMPLETION
        self._weight = self._weight * keep + 1
        self._service_s = self._service_s * keep + max(service_s, 0.0)
        self._predicted_tokens = self._predicted_tokens * keep + predicted_tokens
        self._output_tokens = self._output_tokens * keep + max(output_tokens, 1.0)
        self._completions += 1
        if self._completions % REFRESH_COMPLETIONS == 0 and self._service_s > 0:
            self.costs = costs = self._at_rates()
            prefill_s = costs.s_per_prefill_token * self._first_tokens.mean_x
            mean_s = self._service_s / self._weight + prefill_s
            if abs(mean_s - self.mean_cost_s) > MEAN_MOVED * self.mean_cost_s:
                self.mean_cost_s = mean_s

    def _at_rates(self) -> ServiceCosts:
        step_s = self._service_s / self._output_tokens
        delayed = max(self._first_tokens.mean_beside, 1.0)
        slope = self._first_tokens.slope(prior=PREFILL_WEIGHT * step_s / delayed)
        return ServiceCosts(
            s_per_token=self._service_s / self._predicted_tokens,
            # A prompt token costs at most a decode token: beyond that it is noise.
            s_per_prefill_token=min(max(slope * delayed, 0.0), step_s),
            step_s=step_s,
        )


class _Moments:
    """Decayed moments of (x, y) for a slope with a prior."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = self._beside = 0.0

    @property
    def mean_x(self) -> float:
        return self._x / self._n if self._n else 0.0

    @property
    def mean_beside(self) -> float:
        return self._beside / self._n if self._n else 1.0

    def add(self, x: float, y: float, *, beside: int) -> None:
        keep = 1 - DECAY_PER_COMPLETION
        self._n = self._n * keep + 1
        self._x = self._x * keep + x
        self._y = self._y * keep + y
        self._xx = self._xx * keep + x * x
        self._xy = self._xy * keep + x * y
        self._beside = self._beside * keep + beside

    def slope(self, *, prior: float) -> float:
        """Least squares with `PRIOR_SAMPLES` imagined points on a line of the prior slope."""
        if not self._n or self._xx <= 0:
            return prior
        spread = self._xx - self._x * self._x / self._n
        weight = PRIOR_SAMPLES * self._xx / self._n
        return (self._xy - self._x * self._y / self._n + weight * prior) / (spread + weight)
