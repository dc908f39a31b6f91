"""A prediction after the deadline: late for the request's arrival, in time for its place."""

from __future__ import annotations

import asyncio

import pytest
from runtime.conftest import MakeBench

pytestmark = pytest.mark.looptime


async def test_a_late_prediction_moves_what_still_waits(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.predictor.late = True
    bench.predictor.delay_s = 0.05
    bench.predictor.tokens |= {"busy": 50.0, "long": 90.0, "short": 2.0}
    busy = asyncio.create_task(bench.request("busy", 50))
    await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(bench.request(name, 2)) for name in ("long", "short")]
    await asyncio.gather(busy, *waiting)
    assert bench.order == ["busy", "short", "long"]
    assert bench.metrics.sources == ["history"] * 3, "counted once, by who spoke first"


async def test_a_request_that_ends_first_waits_for_no_prediction(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.predictor.late = True
    bench.predictor.delay_s = 1000.0
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    await bench.request("a", 3)
    assert loop.time() - started_s < 10.0
    assert len(bench.spans("predict_length")) == 1
    bench.assert_idle()
