"""A_max: admit by the upper bound of every length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmservice_sidecar.core.admission.budget import fits
from llmservice_sidecar.core.admission.interval import interval_of
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.rules import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class AMaxRule:
    """Admits while the future peak with all answers at their upper bound fits (arXiv 2508.14544).

    Never overflows if the bounds hold, and leaves memory empty where they are wide.
    """

    capacity_tokens: float = math.inf

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return fits(request, running, left=_upper_left, capacity_tokens=self.capacity_tokens)


def _upper_left(request: Request, generated: float) -> float:
    return interval_of(request).upper - generated
