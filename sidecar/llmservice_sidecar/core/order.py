"""The order of the queue: a policy, what it knows of costs, and when keys must be made anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.gamma import WorkEstimator, costs_moved, moved
from llmservice_sidecar.core.policy import (
    BoundedPolicy,
    LearningPolicy,
    OrderingPolicy,
    QueueView,
)
from llmservice_sidecar.core.queue import Key
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.room import Room


class Order:
    """Makes keys under one view, and says when the view no longer holds.

    Keys made under different views do not compare: whoever replaces the view remakes them all.
    """

    def __init__(self, policy: OrderingPolicy, estimator: WorkEstimator) -> None:
        self.estimator: Final = estimator
        self.policy = policy
        self._view = QueueView(
            now=0.0,
            depth=0,
            in_flight=0,
            limit_slots=1,
            gamma_per_s=policy.tail_weight / estimator.horizon_s(0.0),
            costs=None,
        )

    @property
    def policy(self) -> OrderingPolicy:
        return self._policy

    @policy.setter
    def policy(self, policy: OrderingPolicy) -> None:
        self._policy = policy
        # Asked once: checking a Protocol is slow.
        self._learning = policy if isinstance(policy, LearningPolicy) else None
        self._bounded = policy if isinstance(policy, BoundedPolicy) else None

    @property
    def costs(self) -> ServiceCosts | None:
        """The rates under which keys are made."""
        return self._view.costs

    @property
    def gamma_per_s(self) -> float:
        """The gamma under which keys are made; it holds the tail weight."""
        return self._view.gamma_per_s

    @property
    def costs_are_old(self) -> bool:
        """Rates have moved away from those under which keys are made."""
        before, after = self._view.costs, self.estimator.rates.costs
        return before is not after and costs_moved(before, after)

    def offered(self, request: Request) -> None:
        """A request was offered: policies that learn from it do."""
        if self._learning is not None:
            self._learning.offered(request)

    def gamma_at(self, work_s: float) -> float:
        """The gamma that belongs to so much work per slot."""
        return self._policy.tail_weight / self.estimator.horizon_s(work_s)

    def is_old(self, *, work_s: float, now: float) -> bool:
        """Must keys be made anew? Gamma has moved, or they were made too long ago."""
        view = self._view
        if moved(view.gamma_per_s, self.gamma_at(work_s)):
            return True
        return now - view.now >= self._policy.keys_last_s

    def use(self, costs: ServiceCosts | None) -> None:
        """Count at these rates from now on; a new view must follow."""
        self._view = replace(self._view, costs=costs)

    def look(self, view: QueueView) -> None:
        """Make keys under this view from now on."""
        self._view = view

    def keys(self, room: Room) -> Callable[[Request], Key]:
        """Makes keys. What is too wide for the room stands behind all others: theirs are finite."""
        narrow_slots, is_wide = room.narrow_slots, room.is_wide
        policy_key, view = self._policy.key, self._view

        def key(request: Request) -> Key:
            if request.slots > narrow_slots and is_wide(request):
                return (math.inf, *policy_key(request, view))
            return policy_key(request, view)

        return key

    def overtaking_bound_s(self, request: Request) -> float | None:
        """Only arrivals within so many seconds after it may overtake; None: nothing is promised."""
        if self._bounded is None:
            return None
        return self._bounded.overtaking_bound_s(request, self._view)
