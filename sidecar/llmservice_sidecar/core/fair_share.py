"""How much service each tenant has had, so that backlogged ones get equal shares of tokens.

Virtual token counters (Sheng et al., "Fairness in serving large language models", arXiv
2401.00588): a tenant is charged what it is served, and one that comes back is lifted to the others,
so that idle time is no credit. Ours differ in two ways: a tenant is held back only while it is more
than the slack ahead of the least served one that waits, so that size decides the order within it;
and whoever comes back may be eight times as much behind the others, so that it goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.core.costs import PREFILL_WEIGHT
from llmservice_sidecar.core.request import Request

# About half an answer for each slot: the slack is paid in waiting by whoever comes to a busy gate,
# so it must be small against what all slots do in the time of an answer, on any engine.
SLACK_TOKENS_PER_SLOT: Final = 128.0
# In slacks. So much of what a tenant has left unused of its share can it take later in one go. Less
# is too little for one that asks for nearly its share, and queues whenever it asks for more: two
# tenants, 8 slots, one asks for 45 % of them, the other for 20 times as much: p99 of the one 2.1 to
# 2.8 times that of alone with 2 slacks, 1.1 to 2.0 with 4, 1.05 to 1.07 with 8 (four seeds).
RETURN_CREDIT: Final = 8.0
MAX_REMEMBERED: Final = 4096  # tenants; beyond, who came back longest ago is forgotten
FORGET_TRIES: Final = 8
NO_CONTEST: Final = -1


@dataclass(slots=True)  # not frozen: one is made for each request, in a third of the time
class Charge:
    """Tokens put on a tenant's account in one contest."""

    contest: int
    tenant: str
    tokens: float


class FairShare:
    """Accounts in tokens: output tokens plus computed prompt tokens at their weight.

    A request is charged its prediction when it is admitted and settled when it leaves: between two
    backlogged tenants the difference stays within the slack, what is in flight and its prediction
    errors. Accounts are of one contest: when nobody waits any more, all are closed.
    """

    def __init__(self) -> None:
        self.slots = 1  # of the limit
        self._accounts: OrderedDict[str, float] = OrderedDict()  # in order of last return
        self._floor = 0.0  # the highest that the least account of those who wait has been
        self._contest = 0

    @property
    def slack_tokens(self) -> float:
        """So far may a tenant be ahead of the least served one that waits, and still go on."""
        return SLACK_TOKENS_PER_SLOT * max(self.slots, 1)

    def account(self, tenant: str) -> float:
        """Tokens on the tenant's account."""
        return self._accounts.get(tenant, 0.0)

    def came_back(self, tenant: str, *, least: float | None, waits: Callable[[str], bool]) -> None:
        """The tenant has requests waiting again; `least`: the least account of those who wait.

        The credit counts from the floor, not from the least account now: or each newcomer would
        start further behind than the one before.
        """
        if least is not None:
            self._floor = max(self._floor, least)
        owed = self._floor - RETURN_CREDIT * self.slack_tokens
        account = max(self._accounts.pop(tenant, 0.0), owed)
        if len(self._accounts) >= MAX_REMEMBERED:
            self._forget(waits)
        self._accounts[tenant] = account

    def close(self) -> None:
        """Nobody waits: what was served without contest is nobody's debt."""
        self._accounts.clear()
        self._floor = 0.0
        self._contest += 1

    def charge(self, tenant: str, tokens: float) -> Charge:
        """Put tokens on the account, if the tenant is part of the contest."""
        if tenant not in self._accounts:
            return Charge(NO_CONTEST, tenant, tokens)
        self._accounts[tenant] += tokens
        return Charge(self._contest, tenant, tokens)

    def settle(self, charge: Charge, tokens: float) -> None:
        """It was so many tokens in the end; without effect when that contest is over."""
        if charge.contest == self._contest and charge.tenant in self._accounts:
            self._accounts[charge.tenant] += tokens - charge.tokens

    def _forget(self, waits: Callable[[str], bool]) -> None:
        """Close an account of a tenant that does not wait, if one is found soon."""
        for _ in range(FORGET_TRIES):
            tenant = next(iter(self._accounts))
            if not waits(tenant):
                del self._accounts[tenant]
                return
            self._accounts.move_to_end(tenant)


def charge_of(request: Request, *, output_tokens: float | None = None) -> float:
    """What a request costs its tenant: as predicted, or with its real output tokens."""
    output = request.predicted_tokens if output_tokens is None else output_tokens
    return output + PREFILL_WEIGHT * request.prefill_tokens
