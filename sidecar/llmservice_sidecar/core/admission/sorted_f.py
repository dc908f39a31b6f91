"""Sorted-F's memory bound: lengths are taken as predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmservice_sidecar.core.admission.budget import fits
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.rules import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedFRule:
    """Admits while the future peak with all answers as predicted fits (arXiv 2508.06133)."""

    capacity_tokens: float = math.inf

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return fits(request, running, left=_predicted_left, capacity_tokens=self.capacity_tokens)


def _predicted_left(request: Request, generated: float) -> float:
    return request.predicted_tokens / request.slots - generated
