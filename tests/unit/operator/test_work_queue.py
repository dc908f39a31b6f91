"""The queue of keys under virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from llmservice_operator.work_queue import WorkQueue

pytestmark = pytest.mark.looptime

Handle = Callable[[str], Awaitable[float | None]]


@asynccontextmanager
async def working(handle: Handle, *, workers: int = 2) -> AsyncGenerator[WorkQueue[str]]:
    queue = WorkQueue(handle, retry_first_s=1.0, retry_longest_s=8.0)
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
