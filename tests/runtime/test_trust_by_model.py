"""A model whose answers are not foreseen stands in the queue by its running mean, alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from runtime.conftest import Bench, MakeBench, call

pytestmark = pytest.mark.looptime


async def serve(bench: Bench, name: str, out_len: int, *, model: str, said: float) -> None:
    bench.predictor.tokens[name] = said
    query = replace(call(name).query, model=model)
    await bench.request(name, out_len, query=query)


async def learn(bench: Bench, count: int, *, misled: bool) -> None:
    """Model `good` is foreseen exactly; of `bad` the opposite of the truth is said if `misled`."""
    for number in range(count):
        length = number % 9 + 1
        await serve(bench, f"g{number}", length, model="good", said=float(length))
        said = 10.0 - length if misled else float(length)
        await serve(bench, f"b{number}", length, model="bad", said=said)


async def test_only_the_misled_model_is_ordered_by_its_mean(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.predictor.mean_tokens = 5.0
    await learn(bench, 60, misled=True)
    report = bench.pipeline.predictor_report()
    assert {name: model.trusted for name, model in report.models.items()} == {
        "good": True,
        "bad": False,
    }
    assert bench.pipeline.snapshot().order == "SSJF"
    order = await _order_of(bench, bad_says=1.0, good_says=3.0)
    assert order == ["good", "bad"], "1 token is said of it, its mean of 5 counts"


async def test_its_predictions_count_again_once_they_come_true(make_bench: MakeBench) -> None:
    bench = make_bench()
    await learn(bench, 60, misled=True)
    await learn(bench, 100, misled=False)
    assert bench.pipeline.predictor_report().models["bad"].trusted
    order = await _order_of(bench, bad_says=1.0, good_says=3.0)
    assert order == ["bad", "good"]


async def test_the_report_tells_rank_and_coverage_of_each_model(make_bench: MakeBench) -> None:
    bench = make_bench()
    await learn(bench, 40, misled=True)
    models = bench.pipeline.predictor_report().models
    assert (models["good"].tau, models["good"].samples) == (1.0, 40)
    assert models["good"].coverage_p90 == 1.0
    assert models["good"].coverage_p50 is None, "the predictor says no median"
    assert (models["bad"].tau or 0.0) < 0.0


async def test_one_answer_of_a_rare_model_is_no_coverage(make_bench: MakeBench) -> None:
    bench = make_bench()
    await learn(bench, 40, misled=False)
    await serve(bench, "r0", 9, model="rare", said=1.0)
    rare = bench.pipeline.predictor_report().models["rare"]
    assert (rare.samples, rare.tau, rare.coverage_p90) == (1, None, None)


async def test_of_several_answers_one_is_compared_with_the_prediction(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(slots=4)
    for number in range(30):
        length = number % 9 + 1
        bench.predictor.tokens[f"r{number}"] = float(length)
        await bench.request(f"r{number}", length, slots=4)
    # A fourth of the tokens is within twice the prediction; all four together would not be.
    assert bench.pipeline.predictor_report().models["m"].coverage_p90 == 1.0


async def _order_of(bench: Bench, *, bad_says: float, good_says: float) -> list[str]:
    """One slot is busy; then `bad` and `good` queue with these predictions."""
    bench.order.clear()
    bench.predictor.tokens["busy"] = 50.0
    busy = asyncio.create_task(bench.request("busy", 50))
    await asyncio.sleep(0.01)
    waiting = [
        asyncio.create_task(serve(bench, "bad", 2, model="bad", said=bad_says)),
        asyncio.create_task(serve(bench, "good", 2, model="good", said=good_says)),
    ]
    await asyncio.gather(busy, *waiting)
    return bench.order[1:]
