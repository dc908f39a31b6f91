"""The words of the core: one inference call, its prediction, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

RequestId = NewType("RequestId", str)


class Outcome(StrEnum):
    """The one terminal word of a request; a closed set, used as metric label and span attribute."""

    COMPLETED = "completed"
    REJECTED = "rejected"  # refused before queueing
    EVICTED = "evicted"  # removed after queueing: deadline or queue timeout
    CANCELLED = "cancelled"  # the client left
    FAILED = "failed"  # the engine or the sidecar failed it


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted output tokens of one answer: conditional mean, upper quantile, and who said so."""

    output_tokens: float
    p90_tokens: float
    source: str  # "model", "history", "prior", "oracle", ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One inference call as the gate sees it: sizes and times, never text.

    Times are seconds on the driver's clock. `slots` is n x prompts: what it occupies while running.
    """

    id: RequestId
    arrived_at: float
    prompt_tokens: int
    prediction: Prediction
    max_tokens: int | None = None
    slots: int = 1
    tenant: str | None = None

    @property
    def work_tokens(self) -> float:
        """Predicted decode tokens over all slots of the request, clipped to `max_tokens`."""
        predicted = self.prediction.output_tokens
        clipped = predicted if self.max_tokens is None else min(predicted, float(self.max_tokens))
        return max(clipped, 1.0) * self.slots
