"""The gate by example: priorities and their caps, promotion, tenants, deadlines, full queues."""

from __future__ import annotations

from typing import Any

import pytest
from llmservice_sidecar.core.decision import Admitted, Queued, Rejected
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.fair_share import SLACK_TOKENS_PER_SLOT
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId


class Door:
    """A gate where a token costs 10 ms; requests arrive when they are offered."""

    def __init__(
        self, *, slots: int = 1, max_queued: int = 100, policy: OrderingPolicy | None = None
    ) -> None:
        estimator = WorkEstimator()
        for _ in range(8):
            estimator.rates.observe(1.0, predicted_tokens=100.0, output_tokens=100)
        self.gate = Gate(
            policy=policy or Fcfs(), limit_slots=slots, max_queued=max_queued, estimator=estimator
        )
        self.now = 0.0

    def classes(self, *, caps: dict[int, int], promote_after_s: float | None = None) -> list[str]:
        return list(self.gate.set_classes(caps=caps, promote_after_s=promote_after_s, now=self.now))

    def offer(
        self, name: str, *, tokens: float = 100.0, **more: Any
    ) -> Admitted | Queued | Rejected:
        request = Request(
            id=RequestId(name),
            arrived_at=self.now,
            prompt_tokens=0,
            prediction=Prediction(tokens, tokens, "test"),
            **more,
        )
        return self.gate.offer(request, now=self.now)

    def leave(self, name: str, *, output_tokens: int | None = None) -> list[str]:
        return list(self.gate.leave(RequestId(name), now=self.now, output_tokens=output_tokens))

    def position(self, name: str) -> int:
        return self.gate.standing(RequestId(name)).position


def test_a_higher_priority_goes_first() -> None:
    door = Door()
    for name, priority in (("running", 0), ("low", -1), ("middle", 0), ("high", 7)):
        door.offer(name, priority=priority)
    assert [door.position(name) for name in ("high", "middle", "low")] == [0, 1, 2]
    assert door.leave("running") == ["high"]
    assert door.leave("high") == ["middle"]
    assert door.leave("middle") == ["low"]


def test_a_priority_at_its_cap_lets_the_lower_ones_pass() -> None:
    door = Door(slots=3)
    door.classes(caps={1: 1})
    assert door.offer("high 1", priority=1) == Admitted()
    assert door.offer("high 2", priority=1) == Queued()
    assert door.offer("low", priority=0) == Admitted()
    assert door.leave("low") == []
    assert door.leave("high 1") == ["high 2"]


def test_an_empty_gate_holds_to_a_cap_too() -> None:
    door = Door(slots=3)
    door.classes(caps={0: 1})
    assert [door.offer(name) for name in ("a", "b")] == [Admitted(), Queued()]


def test_a_wide_head_of_a_priority_is_not_overtaken_within_it() -> None:
    door = Door(slots=9)
    door.classes(caps={1: 2})
    door.offer("running", priority=1)
    assert door.offer("wide", priority=1, slots=2) == Queued()
    assert door.offer("narrow", priority=1) == Queued()
    assert door.offer("low") == Admitted()


def test_a_wide_head_of_a_priority_is_not_overtaken_by_a_lower_one() -> None:
    door = Door(slots=2)
    for name, priority, slots in (("running", 0, 1), ("wide", 1, 2), ("narrow", 0, 1)):
        door.offer(name, priority=priority, slots=slots)
    assert door.position("narrow") == 1
    assert door.leave("running") == ["wide"]
    assert door.leave("wide") == ["narrow"]


def test_a_larger_cap_admits_at_once() -> None:
    door = Door(slots=4)
    door.classes(caps={0: 1})
    for name in ("a", "b", "c"):
        door.offer(name)
    assert door.classes(caps={0: 2}) == ["b"]
    assert door.classes(caps={}) == ["c"]


def test_a_request_wider_than_its_cap_is_refused() -> None:
    door = Door(slots=4)
    door.classes(caps={1: 2})
    assert door.offer("wide", priority=1, slots=3) == Rejected(Reason.TOO_LARGE)
    assert door.offer("other", priority=0, slots=3) == Admitted()


def test_a_request_wider_than_a_shrunk_cap_does_not_block_its_priority() -> None:
    door = Door(slots=2)
    door.offer("running", slots=2)
    door.offer("wide", slots=2)
    door.offer("narrow")
    door.classes(caps={0: 1})
    assert door.leave("running") == ["narrow"]
    door.leave("narrow")
    assert door.classes(caps={}) == ["wide"]


def test_who_waited_too_long_goes_first_in_arrival_order() -> None:
    door = Door(policy=Ssjf(tail_weight=0.0))
    door.offer("running")
    door.offer("long", tokens=500.0)
    door.offer("longer", tokens=900.0)
    door.now = 5.0
    door.offer("short", tokens=1.0)
    door.classes(caps={}, promote_after_s=10.0)
    door.now = 10.0
    assert door.leave("running") == ["long"]
    assert door.leave("long") == ["longer"]


def test_promoted_requests_hold_a_quarter_of_the_slots() -> None:
    door = Door(slots=8, policy=Ssjf(tail_weight=0.0))
    for number in range(8):
        door.offer(f"running {number}")
    for number in range(6):
        door.offer(f"old {number}", tokens=500.0 + number)
    door.now = 100.0
    for number in range(6):
        door.offer(f"short {number}", tokens=1.0)
    door.classes(caps={}, promote_after_s=50.0)
    admitted = [name for n in range(5) for name in door.leave(f"running {n}")]
    assert admitted == ["old 0", "old 1", "short 0", "short 1", "short 2"]
    # A slot of the share is free again.
    assert door.leave("old 1") == ["old 2"]


def test_a_request_wider_than_the_promoted_share_is_promoted_alone() -> None:
    door = Door(slots=4, policy=Ssjf(tail_weight=0.0))
    door.offer("running", slots=4)
    door.offer("wide", tokens=900.0, slots=3)
    door.offer("old", tokens=800.0)
    door.now = 60.0
    door.offer("short", tokens=1.0)
    door.classes(caps={}, promote_after_s=50.0)
    assert door.leave("running") == ["wide", "short"]


def test_promotion_passes_those_whom_their_cap_holds() -> None:
    door = Door(slots=2, policy=Ssjf(tail_weight=0.0))
    door.classes(caps={1: 1}, promote_after_s=50.0)
    for name, priority in (("capped", 1), ("running", 0), ("held", 1), ("low", -1)):
        door.offer(name, priority=priority)
    door.now = 60.0
    door.offer("new", priority=0)
    assert door.leave("running") == ["low"]


def test_promotion_passes_what_is_too_wide_to_run() -> None:
    door = Door(slots=2, policy=Ssjf(tail_weight=0.0))
    door.classes(caps={}, promote_after_s=50.0)
    door.offer("running", slots=2)
    door.offer("wide", slots=2)
    door.offer("old", tokens=500.0)
    door.now = 60.0
    door.offer("short", tokens=1.0)
    door.gate.resize(1, now=door.now)
    assert door.leave("running") == ["old"]


def test_a_newcomer_does_not_take_the_turn_of_one_who_has_just_waited_too_long() -> None:
    door = Door(slots=2, policy=Ssjf(tail_weight=0.0))
    door.classes(caps={}, promote_after_s=50.0)
    for name in ("running 1", "running 2"):
        door.offer(name)
    door.offer("old", tokens=500.0)
    door.offer("wide", tokens=2.0, slots=2)
    assert door.leave("running 1") == []  # the wide one is next, and waits for a second slot
    door.now = 60.0
    assert door.offer("new", tokens=1.0) == Queued()
    assert list(door.gate.rekey(now=door.now)) == ["old"]


def test_nobody_is_promoted_before_time() -> None:
    door = Door(policy=Ssjf(tail_weight=0.0))
    door.classes(caps={}, promote_after_s=50.0)
    door.offer("running")
    door.offer("old", tokens=500.0)
    door.now = 49.0
    door.offer("short", tokens=1.0)
    assert door.leave("running") == ["short"]


def test_a_tenant_ahead_of_the_others_waits_for_them() -> None:
    door = Door(policy=Ssjf(tail_weight=0.0))
    door.offer("running")
    door.offer("b 1", tokens=900.0, tenant="b")
    for number in range(3):
        door.offer(f"a {number}", tokens=10.0 + number, tenant="a")
    # Ten tokens were predicted; what came takes the tenant to the slack, the next beyond it.
    assert door.leave("running") == ["a 0"]
    assert door.leave("a 0", output_tokens=round(SLACK_TOKENS_PER_SLOT)) == ["a 1"]
    assert door.leave("a 1", output_tokens=20) == ["b 1"]
    assert door.leave("b 1", output_tokens=900) == ["a 2"]


def test_a_broken_answer_is_charged_what_came_of_it() -> None:
    door = Door(policy=Ssjf(tail_weight=0.0))
    door.offer("running")
    door.offer("a 1", tokens=10.0, tenant="a")
    door.offer("a 2", tokens=10.0, tenant="a")
    door.offer("b", tokens=900.0, tenant="b")
    assert door.leave("running") == ["a 1"]
    door.gate.update(RequestId("a 1"), generated=2 * round(SLACK_TOKENS_PER_SLOT), now=1.0)
    assert door.leave("a 1") == ["b"]


@pytest.mark.parametrize(
    ("tenant", "priority", "displaced"),
    [
        pytest.param("small", 0, "flood 2", id="a tenant with fewer waiting displaces the last"),
        pytest.param("flood", 0, None, id="nobody displaces a request of its own tenant"),
        pytest.param("flood", 1, "flood 2", id="a higher priority displaces a lower one"),
        pytest.param("small", -1, None, id="a lower priority displaces nobody"),
    ],
)
def test_a_full_queue(tenant: str, priority: int, displaced: str | None) -> None:
    door = Door(max_queued=3)
    door.offer("running")
    for number in range(3):
        door.offer(f"flood {number}", tenant="flood")
    decision = door.offer("new", tenant=tenant, priority=priority)
    if displaced is None:
        assert decision == Rejected(Reason.QUEUE_FULL)
    else:
        assert decision == Queued(displaced=RequestId(displaced))
        with pytest.raises(KeyError):
            door.position(displaced)
    assert door.gate.queued_requests == 3


def test_equal_tenants_displace_nobody() -> None:
    door = Door(max_queued=2)
    for name, tenant in (("running", "a"), ("a", "a"), ("b", "b")):
        door.offer(name, tenant=tenant)
    assert door.offer("c", tenant="c") == Rejected(Reason.QUEUE_FULL)


def test_of_equal_tenants_the_last_in_order_is_displaced() -> None:
    door = Door(max_queued=2)
    for name, tenant in (("running", "a"), ("a", "a"), ("b", "b")):
        door.offer(name, tenant=tenant)
    assert door.offer("c", tenant="c", priority=1) == Queued(displaced=RequestId("b"))


def test_a_queue_of_zero_displaces_nobody() -> None:
    door = Door(max_queued=0)
    door.offer("running")
    assert door.offer("high", priority=9) == Rejected(Reason.QUEUE_FULL)


def test_a_deadline_out_of_reach_is_refused_with_the_estimate() -> None:
    door = Door(slots=2)
    for name, tokens in (("a", 400.0), ("b", 300.0), ("c", 200.0)):
        door.offer(name, tokens=tokens)
    # Slots are free after 4 and 3 s; c takes the second until 5 s; then 1 s from the fourth on.
    assert door.offer("d", deadline_at=4.9) == Rejected(Reason.DEADLINE_UNREACHABLE, 5.0)
    assert door.offer("d", deadline_at=5.1) == Queued()
    assert door.gate.predicted_wait_s(RequestId("d"), now=0.0) == pytest.approx(4.0)
    assert door.gate.predicted_wait_s(RequestId("a"), now=0.0) == 0.0


def test_a_wait_is_foreseen_in_the_order_of_turns() -> None:
    door = Door(slots=2, policy=Ssjf(tail_weight=0.0))
    door.offer("a", tokens=100.0)
    door.offer("b", tokens=100.0)
    for name, tokens, tenant in (("c", 300.0, "x"), ("d", 100.0, "x"), ("e", 200.0, "y")):
        door.offer(name, tokens=tokens, tenant=tenant)
    # Turns: d and e after 1 s, c after d at 2 s.
    assert door.gate.predicted_wait_s(RequestId("c"), now=0.0) == pytest.approx(2.0)
