"""The gate's asyncio shell under virtual time: order, deadlines, and never a lost slot."""

from __future__ import annotations

import asyncio
import random

import pytest
from llmservice_sidecar.core.errors import Reason, RequestEvicted, RequestRejected
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.runtime.async_gate import AsyncGate, Patience, Ticket
from llmservice_sidecar.runtime.call import Place

pytestmark = pytest.mark.looptime

FOREVER = Patience(wait_s=1e6, reason=Reason.QUEUE_TIMEOUT)


def make_gate(*, limit: int = 1, max_queued: int = 100) -> AsyncGate:
    gate = Gate(
        policy=make_policy("SSJF", tail_weight=0.0),
        limit_slots=limit,
        max_queued=max_queued,
        estimator=WorkEstimator(),
    )
    return AsyncGate(gate, clock=asyncio.get_running_loop().time)


def ticket(name: str, tokens: float = 1.0, *, slots: int = 1) -> Ticket:
    now = asyncio.get_running_loop().time()
    prediction = Prediction(tokens, tokens, "test")
    return Ticket(
        request=Request(
            id=RequestId(name), arrived_at=now, prompt_tokens=1, prediction=prediction, slots=slots
        )
    )


async def hold(gate: AsyncGate, name: str, tokens: float, order: list[str]) -> None:
    async with gate.admit(ticket(name, tokens), patience=FOREVER):
        order.append(name)
        await asyncio.sleep(tokens)


async def ticks(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_short_request_overtakes_a_long_one(looptime: float) -> None:
    gate, order = make_gate(), list[str]()
    async with asyncio.TaskGroup() as group:
        for name, tokens in (("first", 1), ("long", 900), ("short", 5)):
            group.create_task(hold(gate, name, tokens, order))
    assert order == ["first", "short", "long"]
    assert looptime == 906


async def test_a_late_prediction_moves_a_queued_request() -> None:
    gate, order = make_gate(), list[str]()
    async with asyncio.TaskGroup() as group:
        for name, tokens in (("first", 10), ("a", 100), ("b", 200)):
            group.create_task(hold(gate, name, tokens, order))
        await ticks()
        gate.predicted(ticket("b"), Prediction(1.0, 1.0, "late"))
    assert order == ["first", "b", "a"]


@pytest.mark.parametrize("reason", [Reason.DEADLINE, Reason.QUEUE_TIMEOUT])
async def test_impatience_evicts_from_the_queue_at_its_time(
    looptime: float, reason: Reason
) -> None:
    gate = make_gate()
    waiting = ticket("b")
    async with gate.admit(ticket("a"), patience=FOREVER):
        with pytest.raises(RequestEvicted) as caught:
            async with gate.admit(waiting, patience=Patience(wait_s=30, reason=reason)):
                raise AssertionError("must not run")
        assert caught.value.reason is reason
        assert looptime == 30
        assert waiting.wait_s == 30
        assert (gate.state.in_flight_slots, gate.state.queued_requests) == (1, 0)
    assert gate.state.in_flight_slots == 0


async def test_cancel_in_the_same_tick_as_admission_leaks_no_slot() -> None:
    gate, order = make_gate(), list[str]()
    a, b, c = (asyncio.create_task(hold(gate, name, 3600.0, order)) for name in "abc")
    await ticks()
    a.cancel()
    await ticks(1)  # a has left; b's turn is set but b has not run
    b.cancel()
    await ticks(5)
    assert order[-1] == "c"
    assert (gate.state.in_flight_slots, gate.state.queued_requests) == (1, 0)
    c.cancel()
    await asyncio.gather(a, b, c, return_exceptions=True)
    assert gate.state.in_flight_slots == 0


async def test_turn_and_eviction_in_the_same_tick_leak_no_slot() -> None:
    gate = make_gate()
    outcome = list[str]()

    async def impatient() -> None:
        try:
            patience = Patience(wait_s=5.0, reason=Reason.DEADLINE)
            async with gate.admit(ticket("b"), patience=patience):
                outcome.append("ran")
        except RequestEvicted:
            outcome.append("evicted")

    async with asyncio.TaskGroup() as group:
        group.create_task(hold(gate, "a", 5.0, []))
        group.create_task(impatient())
    assert len(outcome) == 1
    assert (gate.state.in_flight_slots, gate.state.queued_requests) == (0, 0)


async def test_random_cancels_leak_nothing() -> None:
    gate, rng = make_gate(limit=3), random.Random(7)
    tasks = list[asyncio.Task[None]]()
    for number in range(400):
        tasks.append(asyncio.create_task(hold(gate, str(number), rng.uniform(1, 9), [])))
        if rng.random() < 0.5:
            asyncio.get_running_loop().call_later(
                rng.choice((0.0, rng.uniform(0, 30))), tasks[-1].cancel
            )
        await asyncio.sleep(rng.choice((0.0, 0.5)))
        assert gate.state.in_flight_slots <= 3
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (gate.state.in_flight_slots, gate.state.queued_requests) == (0, 0)
    assert gate.waiting == 0


async def test_full_queue_rejects_at_once_with_a_retry_time() -> None:
    gate = make_gate(max_queued=0)
    async with gate.admit(ticket("a"), patience=FOREVER):
        with pytest.raises(RequestRejected) as caught:
            async with gate.admit(ticket("b"), patience=FOREVER):
                raise AssertionError("must not run")
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.retry_after_s is not None


async def test_a_request_wider_than_the_limit_is_told_no_time_to_retry() -> None:
    gate = make_gate(limit=2)
    with pytest.raises(RequestRejected) as caught:
        async with gate.admit(ticket("wide", slots=3), patience=FOREVER):
            raise AssertionError("must not run")
    assert (caught.value.reason, caught.value.retry_after_s) == (Reason.TOO_LARGE, None)


async def test_limit_down_then_up_never_oversubscribes() -> None:
    gate = make_gate(limit=2)
    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(hold(gate, str(number), 10.0, []))
        await asyncio.sleep(1)
        gate.resize(1)
        gate.resize(2)
        await asyncio.sleep(1)
        assert gate.state.in_flight_slots == 2


async def test_standing_says_whom_a_request_overtook() -> None:
    gate = make_gate()
    long, short = ticket("long", 900), ticket("short", 2)

    async def run(one: Ticket) -> None:
        async with gate.admit(one, patience=FOREVER):
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        for one in (ticket("first"), long, short):
            group.create_task(run(one))
            await ticks(1)
    assert short.admitted is not None
    assert long.admitted is not None
    assert short.admitted.overtook == 1
    assert long.admitted.overtaken_by_ids == (RequestId("short"),)


async def test_the_longest_wait_is_that_of_the_first_that_still_waits() -> None:
    gate = make_gate()
    assert gate.longest_wait_s() == 0.0
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(gate, "runs", 5.0, []))
        await ticks()
        group.create_task(hold(gate, "first", 1.0, []))
        await asyncio.sleep(2.0)
        group.create_task(hold(gate, "second", 1.0, []))
        await asyncio.sleep(2.0)
        assert gate.longest_wait_s() == pytest.approx(4.0)
        await asyncio.sleep(1.5)  # the first runs now
        assert gate.longest_wait_s() == pytest.approx(3.5)
    assert gate.longest_wait_s() == 0.0


async def test_who_has_to_wait_is_told_once_and_at_once() -> None:
    gate = make_gate()
    told = list[int]()

    async def on_queued(place: Place) -> None:
        told.append(place.standing.position)

    async with asyncio.TaskGroup() as group:
        group.create_task(hold(gate, "a", 5.0, []))
        await ticks()

        async def second() -> None:
            async with gate.admit(ticket("b"), patience=FOREVER, on_queued=on_queued):
                pass

        group.create_task(second())
        await ticks()
        assert told == [0]
    assert told == [0]
