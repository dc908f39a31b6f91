"""Readiness follows the engine's health and tells when the engine has come up."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from fakes.engine import FakeEngine
from llmservice_sidecar.runtime.drain import Drain
from llmservice_sidecar.runtime.readiness import Readiness

pytestmark = pytest.mark.looptime


class SlowEngine(FakeEngine):
    """Answers its health check after `rounds` seconds each."""

    def __init__(self, *rounds: float) -> None:
        super().__init__()
        self.rounds = list(rounds)

    async def healthy(self) -> bool:
        if self.rounds:
            await asyncio.sleep(self.rounds.pop(0))
        return self.up


def readiness() -> Readiness:
    return Readiness(Drain(in_use=lambda: 0, close=lambda: None, reopen=lambda: None))


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_it_is_told_once_each_time_that_the_engine_comes_up() -> None:
    engine, ups = FakeEngine(up=False), 0

    async def came_up() -> None:
        nonlocal ups
        ups += 1

    polling = asyncio.create_task(readiness().poll(engine, on_up=came_up))
    await asyncio.sleep(3)
    assert ups == 0
    engine.up = True
    await asyncio.sleep(5)
    assert ups == 1
    engine.up = False
    await asyncio.sleep(3)
    engine.up = True
    await asyncio.sleep(5)
    assert ups == 2
    await ended(polling)


async def test_the_round_trip_is_the_fastest_of_the_last_ones() -> None:
    state = readiness()
    assert state.engine_round_trip_s == 0
    polling = asyncio.create_task(state.poll(SlowEngine(0.5, 0.125, 0.25, *[0.5] * 20)))
    await asyncio.sleep(5)
    assert state.engine_round_trip_s == 0.125
    await asyncio.sleep(40)
    assert state.engine_round_trip_s < 0.125  # it has been faster since
    await ended(polling)


async def test_an_engine_that_does_not_answer_has_no_round_trip() -> None:
    state, engine = readiness(), SlowEngine(0.5, 0.5)
    engine.up = False
    polling = asyncio.create_task(state.poll(engine))
    await asyncio.sleep(5)
    assert (state.engine_round_trip_s, state.engine_healthy) == (0, False)
    await ended(polling)
