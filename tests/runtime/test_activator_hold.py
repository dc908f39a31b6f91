"""Requests that wait for a replica: order, room, spread and time, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from llmservice_api.activation import Activation, Replica
from llmservice_sidecar.activator.hold import HoldLimits, Memory, Target
from llmservice_sidecar.core.errors import (
    LLMServiceError,
    Reason,
    RequestEvicted,
    RequestRejected,
)

pytestmark = pytest.mark.looptime

ONE, TWO = Replica("one:8000", "one:50051"), Replica("two:8000", "two:50051")


def ready(*replicas: Replica) -> Activation:
    return Activation(namespace="n", name="s", http_port=1, grpc_port=2, replicas=replicas)


async def asked(target: Target, *, timeout_s: float | None = None, work_s: float = 0.0) -> Replica:
    """The replica that a request is sent to, which keeps it for a while."""
    async with target.turn(target.ticket(timeout_s)) as turn:
        turn.written()
        await asyncio.sleep(work_s)
        return turn.replica


def some(target: Target, count: int, work_s: float = 0.0) -> list[asyncio.Task[Replica]]:
    return [asyncio.create_task(asked(target, work_s=work_s)) for _ in range(count)]


async def test_what_waits_is_sent_in_order_of_arrival_one_after_the_other() -> None:
    target = Target("n/s", HoldLimits())
    sent: list[int] = []

    async def ask(number: int) -> None:
        async with target.turn(target.ticket(None)) as turn:
            await asyncio.sleep(1.0)  # to write it takes a while
            sent.append(number)
            turn.written()
            await asyncio.sleep(100.0)

    tasks = [asyncio.create_task(ask(number)) for number in range(5)]
    await asyncio.sleep(10)
    assert (target.held, sent) == (5, [])
    target.update(ready(ONE))
    await asyncio.sleep(3.5)
    assert sent == [0, 1, 2]
    await asyncio.gather(*tasks)
    assert sent == [0, 1, 2, 3, 4]


async def test_who_failed_and_waits_again_is_still_the_first() -> None:
    target = Target("n/s", HoldLimits(rest_s=1.0))
    target.update(ready(ONE))
    order: list[str] = []
    ticket = target.ticket(None)
    async with target.turn(ticket) as turn:
        target.rest(turn.replica)
    late = asyncio.create_task(asked(target))
    late.add_done_callback(lambda _: order.append("late"))
    await asyncio.sleep(0.5)

    async def again() -> None:
        async with target.turn(ticket):
            order.append("first")

    await asyncio.gather(again(), late)
    assert order == ["first", "late"]


async def test_one_more_than_may_wait_is_refused() -> None:
    target = Target("n/s", HoldLimits(max_held=2))
    tasks = some(target, 2)
    await asyncio.sleep(0)
    with pytest.raises(RequestRejected) as refused:
        await asked(target)
    assert refused.value.reason is Reason.QUEUE_FULL
    target.update(ready(ONE))
    assert await asyncio.gather(*tasks) == [ONE, ONE]


async def test_the_time_to_come_back_follows_how_long_it_took_to_wake() -> None:
    target = Target("n/s", HoldLimits())
    assert target.retry_after_s() == 30.0
    tasks = some(target, 1)
    await asyncio.sleep(100)
    target.update(ready(ONE))
    await asyncio.gather(*tasks)
    target.update(ready())
    assert target.retry_after_s() == pytest.approx(100)
    tasks = some(target, 1)
    await asyncio.sleep(70)
    assert target.retry_after_s() == pytest.approx(30)
    await asyncio.sleep(70)
    assert target.retry_after_s() == 1.0
    tasks[0].cancel()


async def test_a_request_waits_as_long_as_is_allowed_and_no_longer(looptime: float) -> None:
    target = Target("n/s", HoldLimits(hold_s=600))
    with pytest.raises(RequestEvicted) as evicted:
        await asked(target)
    assert (evicted.value.reason, looptime) == (Reason.QUEUE_TIMEOUT, 600)
    assert target.held == 0


async def test_a_clients_deadline_counts_where_it_is_the_shorter_one(looptime: float) -> None:
    target = Target("n/s", HoldLimits(hold_s=600))
    with pytest.raises(RequestEvicted) as evicted:
        await asked(target, timeout_s=20)
    assert (evicted.value.reason, looptime) == (Reason.DEADLINE, 20)
    with pytest.raises(RequestEvicted) as evicted:
        await asked(target, timeout_s=3600)
    assert (evicted.value.reason, looptime) == (Reason.QUEUE_TIMEOUT, 620)


async def test_requests_go_to_the_replica_with_the_fewest_of_ours() -> None:
    target = Target("n/s", HoldLimits())
    target.update(ready(ONE, TWO))
    found = await asyncio.gather(*some(target, 10, work_s=5))
    assert (found.count(ONE), found.count(TWO)) == (5, 5)
    # One after the other, too: none is asked twice in a row.
    assert {await asked(target), await asked(target)} == {ONE, TWO}


async def test_a_replica_that_failed_rests_while_others_are_asked(looptime: float) -> None:
    target = Target("n/s", HoldLimits(rest_s=2.0))
    target.update(ready(ONE, TWO))
    target.rest(ONE)
    assert [await asked(target) for _ in range(3)] == [TWO, TWO, TWO]
    target.rest(TWO, pause_s=9.0)
    assert await asked(target) == ONE
    assert looptime == 2.0


async def test_a_replica_that_is_gone_is_not_asked_after_its_rest() -> None:
    target = Target("n/s", HoldLimits(rest_s=2.0))
    target.update(ready(ONE))
    target.rest(ONE)
    target.update(ready())
    target.rest(ONE)
    waiting = asyncio.create_task(asked(target))
    await asyncio.sleep(10)
    assert target.held == 1
    target.update(ready(TWO))
    assert await waiting == TWO


async def test_closing_refuses_what_waits_what_comes_and_what_tries_again() -> None:
    target = Target("n/s", HoldLimits())

    def refusal() -> LLMServiceError:
        return RequestRejected(Reason.DRAINING, "gone")

    tried = target.ticket(None)
    tried.held = True
    waiting = some(target, 3)
    await asyncio.sleep(1)
    target.close(refusal)
    for task in waiting:
        with pytest.raises(RequestRejected):
            await task
    with pytest.raises(RequestRejected):
        await asked(target)
    with pytest.raises(RequestRejected):
        async with target.turn(tried):
            raise AssertionError("it was let in")
    target.update(ready(ONE))
    with pytest.raises(RequestRejected):
        await asked(target)


async def test_memory_is_given_back_however_a_request_ends() -> None:
    memory = Memory(HoldLimits(max_bytes=100, overhead_bytes=10))
    with memory.place(lambda: 7.0) as place:
        place.grow(90)
        with pytest.raises(RequestRejected) as refused:
            place.grow(1)
        assert refused.value.retry_after_s == 7.0
        place.free()
        assert memory.used == 0
    assert memory.used == 0
