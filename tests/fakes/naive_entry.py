"""One request at the naive gate, and what tenants have been served; as plain as the gate itself.

Nothing of the real gate is used but its values.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from fakes.naive_rates import PREFILL_WEIGHT
from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.request import Request

SLACK_PER_SLOT = 128


@dataclass(slots=True)
class Entry:
    """A request here, queued or running; `number` counts arrivals."""

    number: int
    request: Request
    first_token_at: float | None = None
    admitted_at: float = 0.0
    generated: int = 0
    promoted: bool = False
    charged: tuple[int, float] | None = None  # contest and tokens
    overtook: int = 0
    overtakers: list[Entry] = field(default_factory=list["Entry"])

    @property
    def tenant(self) -> str:
        return self.request.tenant or ""

    @property
    def prompt_charge(self) -> float:
        return PREFILL_WEIGHT * self.request.prefill_tokens

    def decode_s(self, costs: ServiceCosts) -> float:
        return costs.s_per_token * self.request.predicted_tokens

    def cost_s(self, costs: ServiceCosts) -> float:
        return self.decode_s(costs) + costs.s_per_prefill_token * self.request.prefill_tokens

    def left_s(self, costs: ServiceCosts, now: float) -> float:
        """Slot-seconds still to come; time counts from the first token on."""
        if self.first_token_at is None:
            return self.cost_s(costs)
        return max(0.0, self.decode_s(costs) - (now - self.first_token_at) * self.request.slots)

    def expected_s(self, costs: ServiceCosts, now: float) -> float:
        """Seconds until its slots are free: 15 % of its age if it outlives its prediction."""
        if self.first_token_at is None:
            return self.cost_s(costs) / self.request.slots
        age_s = now - self.first_token_at
        return max(self.decode_s(costs) / self.request.slots - age_s, 0.15 * age_s)


@dataclass(slots=True)
class NaiveShares:
    """Tokens charged to each tenant since somebody waits; who comes back is owed a credit."""

    accounts: dict[str, float] = field(default_factory=dict[str, float])
    floor: float = 0.0  # the highest that the least account of those who wait has been
    contest: int = 0

    def join(self, tenant: str, waiting: Set[str], *, slack: float) -> None:
        if waiting:
            self.floor = max(self.floor, min(self.accounts[other] for other in waiting))
        self.accounts[tenant] = max(self.accounts.get(tenant, 0.0), self.floor - 8 * slack)

    def close(self) -> None:
        self.accounts.clear()
        self.floor = 0.0
        self.contest += 1

    def charge(self, entry: Entry) -> None:
        if entry.tenant in self.accounts:
            entry.charged = (self.contest, entry.request.predicted_tokens + entry.prompt_charge)
            self.accounts[entry.tenant] += entry.charged[1]

    def settle(self, entry: Entry, output: int) -> None:
        if entry.charged is not None and entry.charged[0] == self.contest:
            self.accounts[entry.tenant] += output + entry.prompt_charge - entry.charged[1]


def first_free_s(free: list[float], before: list[float], *, slots: int) -> float:
    """List scheduling: each of `before` takes the slot that is free first; when is the next?"""
    free = free + [0.0] * (slots - len(free))
    free = sorted(free)[-slots:]
    for cost_s in before:
        free[free.index(min(free))] += cost_s
    return min(free)
