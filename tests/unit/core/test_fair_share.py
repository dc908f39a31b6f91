"""Tenants' accounts: what a charge, a return, a settlement and an end of the contest do to them."""

from __future__ import annotations

from collections.abc import Set

import pytest
from llmservice_sidecar.core.fair_share import (
    MAX_REMEMBERED,
    FairShare,
    charge_of,
)
from llmservice_sidecar.core.request import Prediction, Request, RequestId

CREDIT_TOKENS = 8 * 128.0  # of one slot
FAR = 100 * CREDIT_TOKENS


def came_back(shares: FairShare, tenant: str, *, waiting: Set[str] = frozenset()) -> None:
    """The tenant waits again beside those who wait."""
    least = min(map(shares.account, waiting), default=None)
    shares.came_back(tenant, least=least, waits=lambda other: other in waiting)


def contest(*tenants: str) -> FairShare:
    """All these wait."""
    shares = FairShare()
    for number, tenant in enumerate(tenants):
        came_back(shares, tenant, waiting=set(tenants[:number]))
    return shares


def test_a_charge_is_settled_by_what_it_was_in_the_end() -> None:
    shares = contest("a", "b")
    charge = shares.charge("a", 100.0)
    assert (shares.account("a"), shares.account("b")) == (100.0, 0.0)
    shares.settle(charge, 30.0)
    assert shares.account("a") == 30.0


@pytest.mark.parametrize(("slots", "slack_tokens"), [(0, 128.0), (1, 128.0), (8, 1024.0)])
def test_the_slack_grows_with_the_slots(slots: int, slack_tokens: float) -> None:
    shares = FairShare()
    shares.slots = slots
    assert shares.slack_tokens == slack_tokens


def test_without_a_contest_nothing_is_charged() -> None:
    shares = FairShare()
    charge = shares.charge("a", 100.0)
    came_back(shares, "a", waiting=set())
    shares.settle(charge, 9000.0)
    assert shares.account("a") == 0.0


def test_accounts_end_with_the_contest() -> None:
    shares = contest("a", "b")
    charge = shares.charge("a", 100.0)
    shares.close()
    came_back(shares, "a", waiting=set())
    shares.settle(charge, 700.0)
    assert shares.account("a") == 0.0


def test_who_comes_back_is_owed_no_more_than_the_credit() -> None:
    shares = contest("a", "b")
    shares.charge("a", FAR)
    came_back(shares, "b", waiting={"a"})
    assert shares.account("b") == FAR - CREDIT_TOKENS


def test_who_comes_back_keeps_what_it_has_had() -> None:
    shares = contest("a", "b")
    shares.charge("a", FAR)
    shares.charge("b", FAR + 5)
    came_back(shares, "b", waiting={"a"})
    assert shares.account("b") == FAR + 5


def test_each_newcomer_is_owed_the_same() -> None:
    shares = contest("old")
    shares.charge("old", FAR)
    waiting = {"old"}
    for name in ("new 1", "new 2", "new 3"):
        came_back(shares, name, waiting=waiting)
        waiting.add(name)
        assert shares.account(name) == FAR - CREDIT_TOKENS


def test_a_tenant_that_waits_on_another_level_too_is_owed_nothing_for_that() -> None:
    shares = contest("a", "b")
    shares.charge("a", FAR)
    shares.charge("b", FAR)
    came_back(shares, "a", waiting={"a", "b"})
    assert shares.account("a") == FAR


def test_who_waits_is_never_forgotten() -> None:
    shares = contest("waits")
    shares.charge("waits", 50.0)
    came_back(shares, "leaves", waiting={"waits"})
    shares.charge("leaves", 60.0)
    for number in range(MAX_REMEMBERED):
        came_back(shares, f"passer-by {number}", waiting={"waits"})
    assert shares.account("waits") == 50.0
    assert shares.account("leaves") == 0.0


def test_more_tenants_may_wait_than_are_remembered_otherwise() -> None:
    waiting = {f"t{number}" for number in range(MAX_REMEMBERED)}
    shares = FairShare()
    for tenant in waiting:
        came_back(shares, tenant, waiting=set())
    came_back(shares, "one more", waiting=waiting)
    for tenant in ("t0", "one more"):
        shares.charge(tenant, 7.0)
        assert shares.account(tenant) == 7.0


@pytest.mark.parametrize(
    ("output_tokens", "expected"),
    [
        pytest.param(None, 80.0 + 0.05 * 40, id="as predicted for all slots, and the prompt"),
        pytest.param(30, 30.0 + 0.05 * 40, id="with the real answer"),
        pytest.param(0, 0.05 * 40, id="an answer that never began cost its prompt"),
    ],
)
def test_a_request_is_charged(output_tokens: int | None, expected: float) -> None:
    request = Request(
        id=RequestId("r"),
        arrived_at=0.0,
        prompt_tokens=100,
        cached_tokens=60,
        prediction=Prediction(40.0, 40.0, "test"),
        slots=2,
    )
    assert charge_of(request, output_tokens=output_tokens) == pytest.approx(expected)
