"""Draining under virtual time: announced, then refusing, then empty; and taken back."""

from __future__ import annotations

import asyncio

import pytest
from llmservice_sidecar.core.errors import RequestRejected
from runtime.conftest import MakeBench

pytestmark = pytest.mark.looptime


async def test_drain_accepts_first_then_refuses_and_ends_when_empty(
    make_bench: MakeBench, looptime: float
) -> None:
    bench = make_bench(slots=2)
    drain = bench.pipeline.drain
    long = asyncio.create_task(bench.request("long", 20))
    await asyncio.sleep(1)
    draining = asyncio.create_task(drain.run(300))
    await asyncio.sleep(4)
    assert drain.draining
    assert not drain.refusing
    await bench.request("late", 2)
    await asyncio.sleep(1)
    with pytest.raises(RequestRejected, match="draining"):
        await bench.request("too late")
    assert await draining is True
    assert looptime == 20
    await long


async def test_drain_gives_up_at_its_timeout_and_keeps_refusing(make_bench: MakeBench) -> None:
    bench = make_bench()
    long = asyncio.create_task(bench.request("long", 100))
    await asyncio.sleep(1)
    assert await bench.pipeline.drain.run(3) is False
    assert bench.pipeline.drain.refusing
    await long


async def test_an_engine_that_comes_back_ends_a_drain_unless_it_is_final(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    drain = bench.pipeline.drain
    first = asyncio.create_task(drain.run(300))
    await asyncio.sleep(10)
    drain.cancel()
    assert await first is True
    assert not drain.draining
    await bench.request("a")
    drain.make_final()
    assert await drain.run(300) is True
    drain.cancel()
    assert drain.draining


async def test_connections_part_shortly_before_requests_are_refused(
    make_bench: MakeBench,
) -> None:
    drain = make_bench().pipeline.drain
    seen: list[tuple[bool, bool]] = []
    drain.watch(lambda: seen.append((drain.parting, drain.refusing)))
    draining = asyncio.create_task(drain.run(300))
    await asyncio.sleep(3.9)
    assert seen == [(False, False)]
    await asyncio.sleep(0.2)
    assert seen[1:] == [(True, False)]
    await draining
    drain.cancel()
    assert seen[-1] == (False, False)


async def test_requests_are_accepted_for_as_long_as_connections_last(
    make_bench: MakeBench, looptime: float
) -> None:
    bench = make_bench()
    bench.pipeline.drain.wait_for(lambda: 16.0)
    draining = asyncio.create_task(bench.pipeline.drain.run(300))
    await asyncio.sleep(20.9)
    await bench.request("on an old connection", 0)
    await asyncio.sleep(0.2)
    with pytest.raises(RequestRejected, match="draining"):
        await bench.request("too late")
    assert await draining is True
