"""A_min: admit by the lower bound of every length, raised by what came out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmservice_sidecar.core.admission.budget import fits
from llmservice_sidecar.core.admission.interval import interval_of
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.rules import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class AMinRule:
    """Admits while the future peak with all answers at their lower bound fits (arXiv 2508.14544).

    An answer that has outgrown its bound counts as one token from its end. When memory runs short
    after all, the engine preempts.
    """

    capacity_tokens: float = math.inf

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return fits(request, running, left=_lower_left, capacity_tokens=self.capacity_tokens)


def _lower_left(request: Request, generated: float) -> float:
    return interval_of(request).lower - generated
