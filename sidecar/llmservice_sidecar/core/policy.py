"""In which order do queued requests run? A policy gives each its key; the smallest runs next.

Policies are pure: no clock, no state, no knowledge of the gate.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from llmservice_sidecar.core.request import Request

DEFAULT_POLICY: Final = "SSJF"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """What a key may depend on besides its request. All keys of a queue are made under one view.

    `gamma_per_s` holds the policy's tail weight already. `s_per_token` is the observed service time
    of one predicted token in one slot; None until enough requests have finished.
    """

    now: float
    depth: int
    in_flight: int
    gamma_per_s: float
    s_per_token: float | None


class OrderingPolicy(Protocol):
    """Which queued request runs next? The smallest key; ties in arrival order."""

    @property
    def name(self) -> str: ...

    @property
    def tail_weight(self) -> float:
        """Scales the view's gamma: how strongly waiting counts against size."""
        ...

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fcfs:
    """First come, first served: key = arrival. The tail weight changes nothing."""

    tail_weight: float = 1.0

    @property
    def name(self) -> str:
        return "FCFS"

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (request.arrived_at,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssjf:
    """Shortest predicted cost first with a bounded tail: key = arrival - boost(cost, gamma).

    gamma-Boost (Yu and Scully, arXiv 2404.08826) on predicted cost (SSJF, arXiv 2404.08509).
    `tail_weight` 0 is shortest first (key = cost), a large one is arrival order. A request of
    cost c is overtaken only by requests that arrive within ln(c / c_min) / gamma seconds after it.
    """

    tail_weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.tail_weight >= 0:
            raise ValueError(f"tail_weight is {self.tail_weight}, must be 0 or more")

    @property
    def name(self) -> str:
        return "SSJF"

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        if self.tail_weight == 0:
            # Sizes compare without a rate, so there is no start-up in arrival order.
            return (request.work_tokens * (view.s_per_token or 1.0),)
        if view.s_per_token is None:
            return (request.arrived_at,)  # start-up: no cost is known in seconds yet
        cost_s = request.work_tokens * view.s_per_token
        return (request.arrived_at - boost_s(cost_s, gamma_per_s=view.gamma_per_s),)


def boost_s(cost_s: float, *, gamma_per_s: float) -> float:
    """By how many seconds a request of this cost may step ahead: -ln(1 - e^(-gamma c)) / gamma.

    Finite and not negative for all costs >= 0 and all gamma in [1e-290, inf].
    """
    # In this order, so that inf x 0 = NaN counts as the smallest, too.
    scaled = max(sys.float_info.min, gamma_per_s * cost_s)
    if scaled > 1.0:
        return -math.log1p(-math.exp(-scaled)) / gamma_per_s
    return -math.log(-math.expm1(-scaled)) / gamma_per_s


POLICIES: Final[Mapping[str, type[Fcfs] | type[Ssjf]]] = {"FCFS": Fcfs, "SSJF": Ssjf}


def make_policy(name: str, *, tail_weight: float = 1.0) -> OrderingPolicy:
    """The policy registered under `name`. Raises ValueError naming the known ones."""
    if name not in POLICIES:
        raise ValueError(f"policy {name!r} is not known; known: {', '.join(POLICIES)}")
    return POLICIES[name](tail_weight=tail_weight)
