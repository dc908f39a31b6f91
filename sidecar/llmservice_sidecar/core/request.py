"""The words of the core: one inference call, its prediction, and how it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NewType

RequestId = NewType("RequestId", str)

MAX_PREDICTED_TOKENS: Final = 1e7  # a wild prediction may not drown all others in the sums
UNPREDICTED_TOKENS: Final = 512.0  # stands in for NaN where not even max_tokens is known


class Outcome(StrEnum):
    """The one terminal word of a request; a closed set, used as metric label and span attribute."""

    COMPLETED = "completed"
    REJECTED = "rejected"  # refused before queueing
    EVICTED = "evicted"  # removed after queueing: deadline or queue timeout
    CANCELLED = "cancelled"  # the client left
    FAILED = "failed"  # the engine or the sidecar failed it


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted output tokens of one answer: conditional mean, quantiles, and who said so."""

    output_tokens: float
    p90_tokens: float
    source: str  # "model", "history", "prior", "oracle", ...
    p50_tokens: float | None = None  # None: whoever predicts knows no median


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One inference call as the gate sees it: sizes and times, never text.

    Times are seconds on the driver's clock. `slots` is n x prompts: what it occupies while running.
    `cached_tokens` of the prompt are expected to be in the engine's prefix cache; `deadline_at` is
    when the answer must be complete; of two priorities the larger is served first;
    `generated_tokens` came out in earlier slices. Then `prediction` is of the tokens still to come.

    `predicted_tokens` are the output tokens of all slots, at least 1 and at most `max_tokens` each;
    `prefill_tokens` are the prompt tokens that the engine has to compute.
    """

    id: RequestId
    arrived_at: float
    prompt_tokens: int
    prediction: Prediction
    max_tokens: int | None = None
    slots: int = 1
    tenant: str | None = None
    priority: int = 0
    deadline_at: float | None = None
    cached_tokens: int = 0
    generated_tokens: int = 0
    # Follow from the above; kept because keys are made of them for a whole queue at once.
    predicted_tokens: float = field(init=False, repr=False, compare=False)
    prefill_tokens: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"request {self.id!r}: slots is {self.slots}, must be at least 1")
        if not math.isfinite(self.arrived_at):
            raise ValueError(
                f"request {self.id!r}: arrived_at is {self.arrived_at}, must be finite"
            )
        predicted = _predicted_tokens(self.prediction, self.max_tokens) * self.slots
        object.__setattr__(self, "predicted_tokens", predicted)
        object.__setattr__(self, "prefill_tokens", max(self.prompt_tokens - self.cached_tokens, 0))


def _predicted_tokens(prediction: Prediction, max_tokens: int | None) -> float:
    """Whatever a predictor says as a positive finite number; NaN counts as the upper bound."""
    bound = MAX_PREDICTED_TOKENS if max_tokens is None else float(max_tokens)
    predicted = prediction.output_tokens
    if math.isnan(predicted):
        predicted = UNPREDICTED_TOKENS if max_tokens is None else bound
    return max(min(predicted, bound, MAX_PREDICTED_TOKENS), 1.0)
