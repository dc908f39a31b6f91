"""What the published orders have in common: none has a tail weight, most have static keys."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from llmservice_sidecar.core.policies.parameters import check_bounds
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request

MIN_SIZE: Final = 1e-9  # a nanosecond; seconds and tokens alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Base of the policies of other papers: the tail weight is taken and changes nothing."""

    tail_weight: float = 1.0
    keys_last_s: float = field(init=False, default=math.inf)

    def __post_init__(self) -> None:
        check_bounds(self)


def waited_s(request: Request, view: QueueView) -> float:
    """Seconds since the request arrived; 0 for one that is younger than the view."""
    return max(view.now - request.arrived_at, 0.0)


def positive_size(request: Request, view: QueueView) -> float:
    """The view's size of a request, never 0: to divide by."""
    return max(view.size(request), MIN_SIZE)
