"""The queue of keys under virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from llmservice_operator.work_queue import Pace, WorkQueue

pytestmark = pytest.mark.looptime

Handle = Callable[[str], Awaitable[float | None]]


PACE = Pace(
    retry_first_s=1.0,
    retry_longest_s=8.0,
    look_longest_s=100.0,
    burst=5,
    every_s=2.0,
    slow_s=1e6,
    rest_longest_s=2.0,
)


class Counted:
    """What a queue has told."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.retries = 0

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def retried(self) -> None:
        self.retries += 1


@asynccontextmanager
async def working(
    handle: Handle, *, workers: int = 2, figures: Counted | None = None, pace: Pace = PACE
) -> AsyncGenerator[WorkQueue[str]]:
    queue = WorkQueue(handle, pace=pace, figures=figures or Counted(), expected=(OSError,))
    tasks = [asyncio.create_task(queue.work()) for _ in range(workers)]
    try:
        yield queue
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_many_events_are_one_look() -> None:
    seen: list[str] = []

    async def handle(key: str) -> None:
        seen.append(key)

    async with working(handle) as queue:
        for _ in range(50):
            queue.add("a")
        queue.add("b")
        await asyncio.sleep(1)
    assert sorted(seen) == ["a", "b"]


@pytest.mark.parametrize(("look_s", "rest_s"), [(0.25, 0.0), (0.5, 0.5), (30.0, 2.0)])
async def test_a_worker_rests_after_a_slow_look(look_s: float, rest_s: float) -> None:
    began: list[float] = []
    loop = asyncio.get_running_loop()

    async def handle(_: str) -> None:
        began.append(loop.time())
        await asyncio.sleep(look_s)

    async with working(handle, workers=1, pace=replace(PACE, slow_s=0.25)) as queue:
        for number in range(3):
            queue.add(str(number))
        await asyncio.sleep(200)
    assert [b - a for a, b in pairwise(began)] == pytest.approx([look_s + rest_s] * 2)


async def test_a_key_is_never_handled_twice_at_a_time_and_no_event_is_lost() -> None:
    running = 0
    looks = 0

    async def handle(_: str) -> None:
        nonlocal running, looks
        running += 1
        looks += 1
        assert running == 1
        await asyncio.sleep(1)
        running -= 1

    async with working(handle, workers=4) as queue:
        queue.add("a")
        await asyncio.sleep(0.5)
        queue.add("a")
        queue.add("a")
        assert queue.depth == 1
        await asyncio.sleep(5)
    assert looks == 2


async def test_a_failure_is_tried_again_with_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(_: str) -> None:
        times.append(loop.time())
        raise RuntimeError("no")

    with caplog.at_level(logging.CRITICAL):
        async with working(handle) as queue:
            queue.add("a")
            await asyncio.sleep(30)
    pauses = [round(later - earlier) for earlier, later in pairwise(times)]
    assert pauses == [1, 2, 4, 8, 8]


async def test_a_success_forgets_earlier_failures() -> None:
    outcomes = iter([RuntimeError("a"), RuntimeError("b"), None, RuntimeError("c"), None])
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(_: str) -> float | None:
        times.append(loop.time())
        outcome = next(outcomes, None)
        if outcome is not None:
            raise outcome
        return 10.0

    async with working(handle) as queue:
        queue.add("a")
        await asyncio.sleep(14.5)
    assert [round(time - times[0]) for time in times] == [0, 1, 3, 13, 14]


async def test_an_event_comes_before_the_next_planned_look() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(_: str) -> float:
        times.append(loop.time())
        return 60.0

    async with working(handle) as queue:
        queue.add("a")
        await asyncio.sleep(10)
        queue.add("a")
        await asyncio.sleep(100)
    assert [round(time - times[0]) for time in times] == [0, 10, 70]


async def test_one_key_in_trouble_does_not_stop_the_others() -> None:
    seen: list[str] = []

    async def handle(key: str) -> None:
        if key == "bad":
            raise RuntimeError("no")
        seen.append(key)

    async with working(handle, workers=1) as queue:
        for key in ("bad", "good", "better"):
            queue.add(key)
        await asyncio.sleep(0.1)
    assert seen == ["good", "better"]


async def test_a_key_that_is_asked_for_without_end_is_looked_at_in_a_burst_then_at_a_pace() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(key: str) -> None:
        times.append(loop.time())
        queue.add(key)  # as when each of our writes is undone at once

    async with working(handle) as queue:
        queue.add("a")
        await asyncio.sleep(20.5)
    assert sum(time - times[0] < 1 for time in times) == 5
    assert len(times) == 5 + 10


async def test_a_key_at_its_pace_holds_up_no_other() -> None:
    looks: list[str] = []

    async def handle(key: str) -> None:
        looks.append(key)
        if key == "a":
            queue.add(key)

    async with working(handle, workers=1) as queue:
        queue.add("a")
        await asyncio.sleep(1)
        looks.clear()
        queue.add("b")
        await asyncio.sleep(0.1)
    assert looks == ["b"]


async def test_a_calm_gives_the_burst_back() -> None:
    looks = 0

    async def handle(_: str) -> float:
        nonlocal looks
        looks += 1
        return 1000.0

    async with working(handle) as queue:
        for _ in range(3):
            for _ in range(5):
                queue.add("a")
                await asyncio.sleep(0.01)
            await asyncio.sleep(30)
    assert looks == 15


async def test_a_look_that_never_ends_is_given_up_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks = 0

    async def handle(_: str) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            await asyncio.Event().wait()

    counted = Counted()
    with caplog.at_level(logging.CRITICAL):
        async with working(handle, figures=counted) as queue:
            queue.add("a")
            await asyncio.sleep(102)
    assert (looks, counted.retries) == (2, 1)


async def test_only_what_nobody_expected_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(key: str) -> None:
        raise OSError("away") if key == "a" else ValueError("a bug")

    async with working(handle) as queue:
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(0.5)
    shown = {record.getMessage().split()[0]: record.exc_info for record in caplog.records}
    assert not shown["a"]
    assert shown["b"]


async def test_the_wait_of_a_key_is_told() -> None:
    async def handle(_: str) -> None:
        await asyncio.sleep(3)

    counted = Counted()
    async with working(handle, workers=1, figures=counted) as queue:
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(4)
    assert [round(wait) for wait in counted.waits] == [0, 3]
