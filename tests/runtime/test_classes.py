"""Priorities, tenants, promotion and deadlines at the gate's shell, under virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llmservice_sidecar.core.errors import Reason, RequestEvicted, RequestRejected
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.runtime.async_gate import AsyncGate, Patience, Ticket

pytestmark = pytest.mark.looptime

FOREVER = Patience(wait_s=1e6, reason=Reason.QUEUE_TIMEOUT)


def make_gate(*, limit: int = 1, max_queued: int = 100, told: bool = True) -> AsyncGate:
    """Shortest first; `told`: a token is known to cost a second of a slot."""
    estimator = WorkEstimator()
    for _ in range(20 if told else 0):
        estimator.rates.observe(10.0, predicted_tokens=10.0, output_tokens=10)
    gate = Gate(
        policy=make_policy("SSJF", tail_weight=0.0),
        limit_slots=limit,
        max_queued=max_queued,
        estimator=estimator,
    )
    return AsyncGate(gate, clock=asyncio.get_running_loop().time)


def ticket(name: str, tokens: float = 10.0, *, foresee: bool = False, **more: Any) -> Ticket:
    """A request that arrives now and takes a second for each token."""
    return Ticket(
        request=Request(
            id=RequestId(name),
            arrived_at=asyncio.get_running_loop().time(),
            prompt_tokens=0,
            prediction=Prediction(tokens, tokens, "test"),
            **more,
        ),
        foresee=foresee,
    )


class Crowd:
    """Requests at one gate, and what becomes of them."""

    def __init__(self, gate: AsyncGate) -> None:
        self.gate = gate
        self.order: list[str] = []
        self.errors: dict[str, RequestEvicted | RequestRejected] = {}
        self.tickets: dict[str, Ticket] = {}

    async def serve(self, one: Ticket) -> None:
        """Hold the slot for as many seconds as tokens are predicted."""
        name = one.request.id
        self.tickets[name] = one
        try:
            async with self.gate.admit(one, patience=FOREVER):
                self.order.append(name)
                self.gate.generated(one.request.id, 1)
                await asyncio.sleep(one.request.prediction.output_tokens)
                one.output_tokens = round(one.request.prediction.output_tokens)
        except (RequestEvicted, RequestRejected) as error:
            self.errors[name] = error


async def test_the_higher_priority_is_served_first_however_long_it_is() -> None:
    crowd = Crowd(make_gate())
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.serve(ticket("first")))
        await asyncio.sleep(1)
        group.create_task(crowd.serve(ticket("short", 1, priority=-1)))
        group.create_task(crowd.serve(ticket("long", 99)))
    assert crowd.order == ["first", "long", "short"]


async def test_a_capped_priority_leaves_the_other_slots_to_lower_ones() -> None:
    gate = make_gate(limit=2)
    gate.set_classes(caps={5: 1}, promote_after_s=None)
    crowd = Crowd(gate)
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(crowd.serve(ticket(name, priority=5)))
        group.create_task(crowd.serve(ticket("low")))
        await asyncio.sleep(1)
        assert crowd.order == ["a", "low"]
        gate.set_classes(caps={}, promote_after_s=None)
        await asyncio.sleep(10)
        assert crowd.order == ["a", "low", "b"]


async def test_who_has_waited_too_long_goes_first() -> None:
    gate = make_gate()
    gate.set_classes(caps={}, promote_after_s=15)
    crowd = Crowd(gate)
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.serve(ticket("first")))
        await asyncio.sleep(1)
        group.create_task(crowd.serve(ticket("long", 90, priority=-1)))
        for number in range(5):
            group.create_task(crowd.serve(ticket(f"short {number}", 5)))
    assert crowd.order == ["first", "short 0", "short 1", "long", "short 2", "short 3", "short 4"]


async def test_a_flooding_tenant_gives_its_places_in_a_full_queue_to_another() -> None:
    gate = make_gate(max_queued=4)
    crowd = Crowd(gate)
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.serve(ticket("first", tenant="flood")))
        await asyncio.sleep(1)
        for number in range(4):
            group.create_task(crowd.serve(ticket(f"f{number}", 10 + number, tenant="flood")))
        await asyncio.sleep(1)
        group.create_task(crowd.serve(ticket("other", tenant="small")))
        await asyncio.sleep(1)
        displaced = crowd.errors["f3"]
        assert isinstance(displaced, RequestEvicted)
        assert displaced.reason is Reason.QUEUE_SHARE
        assert displaced.retry_after_s is not None
        assert gate.waiting == gate.state.queued_requests == 4
        group.create_task(crowd.serve(ticket("more", tenant="flood")))
        await asyncio.sleep(1)
        assert crowd.errors["more"].reason is Reason.QUEUE_FULL
    assert "other" in crowd.order
    assert gate.state.in_flight_slots == 0


async def test_a_displaced_request_that_leaves_in_the_same_tick_leaks_nothing() -> None:
    gate = make_gate(max_queued=1)
    crowd = Crowd(gate)
    first = asyncio.create_task(crowd.serve(ticket("first")))
    await asyncio.sleep(1)
    low = asyncio.create_task(crowd.serve(ticket("low", priority=-1)))
    await asyncio.sleep(1)
    low.cancel()
    high = asyncio.create_task(crowd.serve(ticket("high")))
    await asyncio.gather(first, low, high, return_exceptions=True)
    assert crowd.order == ["first", "high"]
    assert (gate.state.in_flight_slots, gate.state.queued_requests, gate.waiting) == (0, 0, 0)


async def test_a_deadline_out_of_reach_is_refused_with_the_estimate() -> None:
    crowd = Crowd(make_gate())
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.serve(ticket("first", 100)))
        await asyncio.sleep(20)
        group.create_task(crowd.serve(ticket("hopeless", 10, deadline_at=80.0)))
        group.create_task(crowd.serve(ticket("in time", 10, deadline_at=200.0)))
    refused = crowd.errors["hopeless"]
    assert refused.reason is Reason.DEADLINE_UNREACHABLE
    assert str(refused) == (
        "the answer is expected to be complete in 90.0 s; the deadline is in 60.0 s"
    )
    assert refused.retry_after_s is not None
    assert crowd.order == ["first", "in time"]


async def test_no_deadline_is_refused_while_costs_are_unknown() -> None:
    crowd = Crowd(make_gate(told=False))
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.serve(ticket("first", 5)))
        await asyncio.sleep(1)
        group.create_task(crowd.serve(ticket("hopeful", 1000, deadline_at=2.0)))
    assert crowd.order == ["first", "hopeful"]


async def test_the_whole_wait_is_foreseen_of_those_who_ask() -> None:
    gate = make_gate()
    crowd = Crowd(gate)
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.serve(ticket("first", 30)))
        await asyncio.sleep(10)
        group.create_task(crowd.serve(ticket("asks", 10, foresee=True)))
        group.create_task(crowd.serve(ticket("asks not", 10)))
        await asyncio.sleep(5)
        place = gate.place(RequestId("asks"))
        assert place is not None
        assert place.predicted_wait_s == pytest.approx(15)
        assert gate.place(RequestId("first")) is None
        # A late prediction moves it behind the other; what it has waited already counts.
        gate.predicted(crowd.tickets["asks"], Prediction(12.0, 12.0, "late"))
    asks = crowd.tickets["asks"]
    assert asks.predicted_wait_s == pytest.approx(30)
    assert asks.wait_s == pytest.approx(30)
    assert crowd.tickets["asks not"].predicted_wait_s is None
