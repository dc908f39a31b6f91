"""How much service each tenant has had, so that backlogged ones get equal shares of tokens.

Virtual token counters (Sheng et al., "Fairness in serving large language models", arXiv
2401.00588): a tenant is charged what it is served, and one that comes back is lifted to the others,
so that idle time is no credit. Ours differ in two ways: a tenant is held back only while it is more
than `SLACK_TOKENS` ahead of the least served one that waits, so that size decides the order within
the slack; and whoever comes back may be so much behind the others, so that it goes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.core.costs import PREFILL_WEIGHT
from llmservice_sidecar.core.request import Request

SLACK_TOKENS: Final = 8192.0
RETURN_CREDIT_TOKENS: Final = 2 * SLACK_TOKENS
MAX_REMEMBERED: Final = 4096  # tenants; the least recently seen is forgotten


@dataclass(frozen=True, slots=True)
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
        self._accounts: dict[str, float] = {}  # in order of last return
        self._contest = 0

    def account(self, tenant: str) -> float:
        """Tokens on the tenant's account."""
        return self._accounts.get(tenant, 0.0)

    def came_back(self, tenant: str, *, least: float | None) -> None:
        """The tenant has requests waiting again; `least`: the least account of others that wait."""
        account = self._accounts.pop(tenant, 0.0)
        if least is not None:
            account = max(account, least - RETURN_CREDIT_TOKENS)
        self._accounts[tenant] = account
        if len(self._accounts) > MAX_REMEMBERED:
            del self._accounts[next(iter(self._accounts))]

    def close(self) -> None:
        """Nobody waits: what was served without contest is nobody's debt."""
        self._accounts.clear()
        self._contest += 1

    def charge(self, tenant: str, tokens: float) -> Charge:
        """Put tokens on the account, if the tenant is part of the contest."""
        if tenant in self._accounts:
            self._accounts[tenant] += tokens
        return Charge(self._contest, tenant, tokens)

    def settle(self, charge: Charge, tokens: float) -> None:
        """It was so many tokens in the end; without effect when that contest is over."""
        if charge.contest == self._contest and charge.tenant in self._accounts:
            self._accounts[charge.tenant] += tokens - charge.tokens


def charge_of(request: Request, *, output_tokens: float | None = None) -> float:
    """What a request costs its tenant: as predicted, or with its real output tokens."""
    output = request.predicted_tokens if output_tokens is None else output_tokens
    return output + PREFILL_WEIGHT * request.prefill_tokens
