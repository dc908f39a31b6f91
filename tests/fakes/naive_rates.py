"""What a token costs, from full lists of all that was seen: each entry counts 255/256 of the next.

Nothing of the real estimator is used but its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmservice_sidecar.core.costs import ServiceCosts

KEEP = 255 / 256
PREFILL_WEIGHT = 0.05
IMAGINED_SAMPLES = 32


@dataclass(slots=True)
class NaiveRates:
    """Looks at each eighth completion; None before."""

    services: list[float] = field(default_factory=list[float])
    predicted: list[float] = field(default_factory=list[float])
    outputs: list[float] = field(default_factory=list[float])
    prompts: list[float] = field(default_factory=list[float])
    delays: list[float] = field(default_factory=list[float])
    beside: list[float] = field(default_factory=list[float])
    costs: ServiceCosts | None = None
    mean_cost: float = 0.0

    def first_token(self, prefill_tokens: float, delay_s: float, beside: int) -> None:
        self.prompts.append(prefill_tokens)
        self.delays.append(delay_s)
        self.beside.append(float(beside))

    def finished(self, service_s: float, predicted_tokens: float, output_tokens: int) -> None:
        self.services.append(max(service_s, 0.0))
        self.predicted.append(predicted_tokens)
        self.outputs.append(max(output_tokens, 1.0))
        service = decayed(self.services)
        if len(self.services) % 8 or service == 0:
            return
        step_s = service / decayed(self.outputs)
        delayed = mean(self.beside) if self.beside else 1.0
        slope = self.slope(prior=PREFILL_WEIGHT * step_s / delayed)
        self.costs = ServiceCosts(
            s_per_token=service / decayed(self.predicted),
            s_per_prefill_token=min(max(slope * delayed, 0.0), step_s),
            step_s=step_s,
        )
        prompt = mean(self.prompts) if self.prompts else 0.0
        mean_cost = mean(self.services) + prompt * self.costs.s_per_prefill_token
        if abs(mean_cost - self.mean_cost) > 0.2 * self.mean_cost:
            self.mean_cost = mean_cost

    def slope(self, *, prior: float) -> float:
        """Of the delay over the prompt: weighted least squares, and samples on the prior's line."""
        if not any(self.prompts):
            return prior
        mean_x, mean_y = mean(self.prompts), mean(self.delays)
        pairs = list(zip(self.prompts, self.delays, strict=True))
        both = decayed([(x - mean_x) * (y - mean_y) for x, y in pairs])
        spread = decayed([(x - mean_x) ** 2 for x, _ in pairs])
        imagined = IMAGINED_SAMPLES * mean([x * x for x, _ in pairs])
        return (both + imagined * prior) / (spread + imagined)


def decayed(values: Sequence[float]) -> float:
    return sum(value * KEEP**age for age, value in enumerate(reversed(values)))


def mean(values: Sequence[float]) -> float:
    return decayed(values) / decayed([1.0] * len(values))


def mean_excess(values: list[float]) -> float:
    """Mean of value - q over the values above their 80 % quantile q."""
    window = sorted(values)
    cut = window[int(0.8 * len(window))]
    above = [value - cut for value in window if value > cut]
    return sum(above) / len(above) if above else 0.0
