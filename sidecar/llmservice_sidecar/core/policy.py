"""What an ordering policy is: it gives each queued request its key; the smallest runs next.

Policies read no clock and know no gate; `core.policies` holds them, one a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from llmservice_sidecar.core.costs import PRIOR_COSTS, ServiceCosts
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """What a key may depend on besides its request. All keys of a queue are made under one view.

    `gamma_per_s` holds the policy's tail weight already. `costs` is None until enough requests have
    finished to know them.
    """

    now: float
    depth: int
    in_flight: int
    limit_slots: int
    gamma_per_s: float
    costs: ServiceCosts | None

    def size(self, request: Request) -> float:
        """Predicted slot-seconds of a request; in decode tokens while costs are unknown."""
        return (self.costs or PRIOR_COSTS).cost_s(request)


class OrderingPolicy(Protocol):
    """Which queued request runs next? The smallest key; ties in arrival order."""

    @property
    def name(self) -> str: ...

    @property
    def tail_weight(self) -> float:
        """Scales the view's gamma: how strongly waiting counts against size."""
        ...

    @property
    def keys_last_s(self) -> float:
        """How long keys stay good while gamma stands still; infinite unless they depend on `now`.

        When it is over, the gate remakes all of them at its next event.
        """
        ...

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]: ...


@runtime_checkable
class LearningPolicy(Protocol):
    """A policy that learns from what it sees; all others keep no state."""

    def offered(self, request: Request) -> None:
        """A request was offered to the gate, before its key is made."""
        ...


@runtime_checkable
class BoundedPolicy(Protocol):
    """A policy that promises who can overtake."""

    def overtaking_bound_s(self, request: Request, view: QueueView) -> float:
        """Only requests that arrive within so many seconds after `request` may run before it."""
        ...


@runtime_checkable
class SlicingPolicy(Protocol):
    """A policy that runs answers piecewise: each slice is offered to the gate anew."""

    def slice_tokens(self, request: Request, view: QueueView) -> int | None:
        """Output tokens of the slice that begins now; None: to the end."""
        ...
