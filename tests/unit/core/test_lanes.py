"""All that wait: levels, tenants, and whose account outlives a crowd of others."""

from __future__ import annotations

from llmservice_sidecar.core.fair_share import MAX_REMEMBERED
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.lanes import Lanes
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.queue import Waiting
from llmservice_sidecar.core.request import Prediction, Request, RequestId


def waiting(number: int, tenant: str, *, priority: int = 0) -> Waiting:
    request = Request(
        id=RequestId(f"r{number}"),
        arrived_at=0.0,
        prompt_tokens=0,
        prediction=Prediction(500.0, 500.0, "test"),
        tenant=tenant,
        priority=priority,
    )
    return Waiting((float(number),), number, request)


def next_of(lanes: Lanes) -> str | None:
    """The tenant whose turn it is on the highest level."""
    return next(iter(lanes.levels)).head().request.tenant


def test_who_waits_keeps_its_account_while_thousands_come_and_go() -> None:
    lanes = Lanes()
    for number in range(2):
        lanes.push(waiting(number, "waits"))
    lanes.charge(waiting(0, "waits").request)
    for number in range(2, MAX_REMEMBERED + 3):
        lanes.push(waiting(number, f"passer-by {number}"))
        lanes.remove(RequestId(f"r{number}"))
    lanes.push(waiting(9999, "new"))
    assert next_of(lanes) == "new"  # "waits" is further ahead than the slack


def test_a_turn_passes_when_an_account_is_settled() -> None:
    lanes = Lanes()
    for number, tenant in enumerate(("a", "a", "b")):
        lanes.push(waiting(number, tenant))
    charge = lanes.charge(lanes.remove(RequestId("r0")).request)
    assert next_of(lanes) == "b"
    lanes.settle(charge, 10.0)
    assert next_of(lanes) == "a"


def test_who_was_put_aside_comes_back_once_the_others_have_caught_up() -> None:
    lanes = Lanes()
    for number, tenant in enumerate(("a", "a", "b", "b", "c", "c")):
        lanes.push(waiting(number, tenant))
    for number, next_tenant in ((0, "b"), (2, "c"), (4, "a")):
        lanes.charge(lanes.remove(RequestId(f"r{number}")).request)
        assert next_of(lanes) == next_tenant


def test_nobody_waits_on_a_level_without_requests() -> None:
    lanes = Lanes()
    lanes.push(waiting(1, "a", priority=3))
    assert [level.head().number for level in lanes.levels] == [1]
    lanes.remove(RequestId("r1"))
    assert not lanes.levels


def test_no_wait_is_foreseen_while_costs_are_unknown() -> None:
    gate = Gate(policy=Fcfs(), limit_slots=1, max_queued=9, estimator=WorkEstimator())
    for number in range(2):
        gate.offer(waiting(number, "a").request, now=0.0)
    assert gate.predicted_wait_s(RequestId("r1"), now=0.0) is None
    assert gate.predicted_wait_s(RequestId("r0"), now=0.0) == 0.0
