"""In Shadow the sidecar tells what SSJF would have gained; where nobody waits it tells nothing."""

from __future__ import annotations

import asyncio

import pytest
from llmservice_api.sidecar_config import LiveConfig, PredictorMode
from llmservice_sidecar.runtime.gain import MIN_REQUESTS, PERIOD_S
from runtime.conftest import MakeBench

pytestmark = pytest.mark.looptime

SHADOW = LiveConfig(tail_weight=0.0, predictor_mode=PredictorMode.SHADOW)


async def test_shadow_reports_what_shortest_first_would_have_gained(make_bench: MakeBench) -> None:
    bench = make_bench(live=SHADOW)
    lengths = {f"r{i}": 2 if i % 4 else 30 for i in range(2 * MIN_REQUESTS)}
    bench.predictor.tokens = {name: float(tokens) for name, tokens in lengths.items()}
    following = asyncio.create_task(bench.pipeline.gain.follow())
    async with asyncio.TaskGroup() as group:
        for name, tokens in lengths.items():
            group.create_task(bench.request(name, tokens))
            await asyncio.sleep(8)
    await asyncio.sleep(PERIOD_S)
    following.cancel()
    ratio = bench.pipeline.predictor_report().estimated_gain_ratio
    assert bench.pipeline.snapshot().order == "FCFS"
    assert ratio is not None
    assert 0.05 < ratio < 0.8


async def test_where_nobody_waits_there_is_no_ratio(make_bench: MakeBench) -> None:
    bench = make_bench(slots=8)
    for number in range(MIN_REQUESTS):
        await bench.request(f"r{number}")
    await bench.pipeline.gain.estimate()
    assert bench.pipeline.predictor_report().estimated_gain_ratio is None


async def test_cancelled_requests_are_no_evidence(make_bench: MakeBench) -> None:
    bench = make_bench()
    task = asyncio.create_task(bench.request("gone", 50))
    await asyncio.sleep(3)
    task.cancel()
    await asyncio.wait({task})
    await bench.pipeline.gain.estimate()
    assert bench.pipeline.predictor_report().estimated_gain_ratio is None
