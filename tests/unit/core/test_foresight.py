"""Who would run next, when, and why not now: one case each; orders in tests/property."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from llmservice_sidecar.core.foresight import Ahead, Foreseen, Hold
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running

S_PER_TOKEN = 0.01


class Never:
    """A rule that admits nothing beside what runs."""

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return not running


def make_gate(policy: str = "SSJF", *, limit: int = 1, rules: Sequence[Never] = ()) -> Gate:
    estimator = WorkEstimator()
    for _ in range(8):
        estimator.rates.observe(1.0, predicted_tokens=100.0, output_tokens=100)
    return Gate(
        policy=make_policy(policy, tail_weight=0.0),
        rules=rules,
        limit_slots=limit,
        max_queued=100,
        estimator=estimator,
    )


def offer(
    gate: Gate,
    name: str,
    tokens: float = 100.0,
    *,
    priority: int = 0,
    slots: int = 1,
    tenant: str = "a",
    at: float = 0.0,
) -> None:
    request = Request(
        id=RequestId(name),
        arrived_at=at,
        prompt_tokens=0,
        prediction=Prediction(tokens, tokens, "test"),
        priority=priority,
        slots=slots,
        tenant=tenant,
    )
    gate.offer(request, now=at)


def rows(gate: Gate, *, now: float = 0.0, count: int = 100) -> dict[str, Foreseen]:
    """By name, in order."""
    return {row.item.request.id: row for row in gate.outlook.foresee(now=now, rows=count)}


def test_a_shorter_one_that_came_later_counts_as_a_smaller_key() -> None:
    gate = make_gate()
    offer(gate, "runs")
    offer(gate, "long", 900.0)
    offer(gate, "short", 10.0)
    found = rows(gate)
    assert list(found) == ["short", "long"]
    assert found["short"].hold is Hold.LIMIT
    assert found["long"].hold is None
    assert found["long"].ahead == Ahead(smaller_key=1)
    assert found["short"].starts_in_s == pytest.approx(1.0)
    assert found["long"].starts_in_s == pytest.approx(1.1)


def test_who_came_earlier_or_matters_more_is_counted_so() -> None:
    gate = make_gate("FCFS")
    for name in ("runs", "first", "second"):
        offer(gate, name)
    offer(gate, "urgent", priority=5)
    found = rows(gate)
    assert list(found) == ["urgent", "first", "second"]
    assert found["second"].ahead == Ahead(higher_priority=1, arrived_earlier=1)


def test_a_tenant_that_was_served_less_goes_first_by_its_share() -> None:
    gate = make_gate()
    offer(gate, "runs")
    # Both wait, so both are in the contest; the greedy one is far ahead after its first.
    for name in ("g1", "g2"):
        offer(gate, name, 5000.0, tenant="greedy")
    offer(gate, "m1", 6000.0, tenant="modest")
    offer(gate, "g3", 5500.0, tenant="greedy")
    found = rows(gate)
    assert list(found) == ["g1", "m1", "g2", "g3"]
    assert found["g2"].ahead == Ahead(arrived_earlier=1, fair_share=1)


def test_a_cap_lets_lower_priorities_go_first_and_says_so() -> None:
    gate = make_gate(limit=3)
    gate.set_classes(caps={5: 1}, promote_after_s=None, now=0.0)
    offer(gate, "urgent runs", 300.0, priority=5)
    for name in ("a runs", "b runs"):
        offer(gate, name)
    for name in ("urgent 1", "urgent 2"):
        offer(gate, name, priority=5)
    offer(gate, "plain")
    found = rows(gate)
    assert list(found) == ["plain", "urgent 1", "urgent 2"]
    assert [row.hold for row in found.values()] == [
        Hold.LIMIT,
        Hold.PRIORITY_CAP,
        Hold.PRIORITY_CAP,
    ]
    assert found["urgent 2"].ahead == Ahead(arrived_earlier=1, unheld=1)
    # It waits for the slot of its own priority, whatever the others do.
    assert found["urgent 1"].starts_in_s == pytest.approx(3.0)
    assert found["urgent 2"].starts_in_s == pytest.approx(4.0)


def test_of_a_priority_only_so_many_as_its_cap_come_before_the_others() -> None:
    gate = make_gate(limit=2)
    gate.set_classes(caps={5: 1}, promote_after_s=None, now=0.0)
    for name in ("runs", "runs too"):
        offer(gate, name)
    for name in ("urgent 1", "urgent 2"):
        offer(gate, name, priority=5)
    offer(gate, "plain")
    assert list(rows(gate)) == ["urgent 1", "plain", "urgent 2"]


def test_who_waited_too_long_is_promoted_on_its_share() -> None:
    gate = make_gate(limit=4)
    gate.set_classes(caps={}, promote_after_s=50.0, now=0.0)
    for number in range(4):
        offer(gate, f"runs {number}")
    for name in ("old 1", "old 2"):
        offer(gate, name, 900.0)
    offer(gate, "new", 10.0, at=40.0)
    found = rows(gate, now=60.0)
    assert list(found) == ["old 1", "new", "old 2"]
    assert found["old 1"].promoted
    assert found["new"].ahead == Ahead(promoted=1)


def test_a_rule_holds_the_head_where_slots_are_free() -> None:
    gate = make_gate(limit=4, rules=(Never(),))
    offer(gate, "runs")
    offer(gate, "head")
    assert rows(gate)["head"].hold is Hold.RULE


def test_what_is_wider_than_a_limit_that_shrank_has_no_start() -> None:
    gate = make_gate("FCFS", limit=4)
    offer(gate, "runs", slots=4)
    offer(gate, "wide", slots=3)
    offer(gate, "narrow")
    gate.resize(2, now=0.0)
    found = rows(gate)
    assert list(found) == ["narrow", "wide"]
    assert (found["wide"].hold, found["wide"].starts_in_s) == (Hold.TOO_WIDE, None)


def test_only_as_many_rows_as_are_asked_for() -> None:
    gate = make_gate()
    for number in range(9):
        offer(gate, f"r{number}")
    assert list(rows(gate, count=3)) == ["r1", "r2", "r3"]
    assert rows(gate, count=0) == {}
