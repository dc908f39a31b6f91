"""FCFS: arrival order, the baseline of every comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Fcfs:
    """First come, first served: key = arrival. The tail weight changes nothing."""

    tail_weight: float = 1.0
    keys_last_s: float = math.inf

    @property
    def name(self) -> str:
        return "FCFS"

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (request.arrived_at,)

    def overtaking_bound_s(self, request: Request, view: QueueView) -> float:  # noqa: ARG002 - protocol
        """Nobody overtakes."""
        return 0.0
