"""The pipeline under virtual time: order, what the engine is told, one outcome per request."""

from __future__ import annotations

import asyncio
import logging

import pytest
from llmservice_api.sidecar_config import LiveConfig, PredictorMode
from llmservice_sidecar.core.errors import (
    DeadlineExceeded,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    InvalidRequest,
    RequestEvicted,
    RequestRejected,
)
from llmservice_sidecar.core.policies import DEPLOYABLE
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.answering import priority
from runtime.conftest import DOOR, Bench, MakeBench, call

pytestmark = pytest.mark.looptime

SHADOW = LiveConfig(tail_weight=0.0, predictor_mode=PredictorMode.SHADOW)
DISABLED = LiveConfig(tail_weight=0.0, predictor_mode=PredictorMode.DISABLED)


async def in_turn(bench: Bench, *names_: str) -> None:
    """Offer requests in this order, all of them before the first has ended."""
    async with asyncio.TaskGroup() as group:
        for name in names_:
            group.create_task(bench.request(name))
            await asyncio.sleep(0.01)


async def test_the_predicted_shorter_request_is_served_first(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.predictor.tokens = {"long": 900.0, "short": 5.0}
    await in_turn(bench, "first", "long", "short")
    assert bench.order == ["first", "short", "long"]
    bench.assert_idle()


@pytest.mark.parametrize(
    ("live", "trusted"),
    [(SHADOW, True), (DISABLED, True), (LiveConfig(policy="FCFS"), True), (LiveConfig(), False)],
    ids=["shadow", "disabled", "policy FCFS", "an open guard"],
)
async def test_arrival_order_is_served_with(
    make_bench: MakeBench, live: LiveConfig, trusted: bool
) -> None:
    bench = make_bench(live=live, trusted=trusted)
    bench.predictor.tokens = {"long": 900.0, "short": 5.0}
    await in_turn(bench, "first", "long", "short")
    assert bench.order == ["first", "long", "short"]
    assert bench.pipeline.snapshot().order == "FCFS"
    assert bool(bench.metrics.sources) is (live.predictor_mode is not PredictorMode.DISABLED)


@pytest.mark.parametrize("name", sorted(DEPLOYABLE))
async def test_every_deployable_policy_serves_all(make_bench: MakeBench, name: str) -> None:
    bench = make_bench(live=LiveConfig(policy=name))
    bench.predictor.tokens = {"long": 900.0, "short": 5.0}
    await in_turn(bench, "first", "long", "short", "last")
    assert sorted(bench.order) == ["first", "last", "long", "short"]
    assert bench.pipeline.snapshot().order == name
    bench.assert_idle()


async def test_policy_parameters_take_effect(make_bench: MakeBench) -> None:
    orders: set[tuple[str, ...]] = set()
    for seed in "12345":
        bench = make_bench(live=LiveConfig(policy="Random", policy_parameters={"seed": seed}))
        await in_turn(bench, *"abcdefgh")
        orders.add(tuple(bench.order))
    assert len(orders) == 5


async def test_a_free_slot_never_waits_for_the_predictor(
    make_bench: MakeBench, looptime: float
) -> None:
    bench = make_bench()
    bench.predictor.delay_s = 50.0
    async with bench.pipeline.serve(call("a"), door=DOOR) as served:
        assert looptime == 0
        assert served.queue_wait_s == 0


async def test_a_broken_predictor_fails_no_request(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench()
    bench.predictor.error = RuntimeError("no model")
    with caplog.at_level(logging.ERROR):
        await bench.request("a")
    assert bench.outcomes() == [("completed", "stop")]
    assert "the predictor failed" in caplog.text


async def test_a_good_predictor_closes_the_guard_and_order_changes(make_bench: MakeBench) -> None:
    bench = make_bench(trusted=False)
    for number in range(40):
        name = f"r{number}"
        bench.predictor.tokens[name] = number % 7 + 1.0
        await bench.request(name, number % 7 + 1)
    assert bench.pipeline.snapshot().order == "SSJF"
    report = bench.pipeline.predictor_report()
    assert report.calibrated is True
    assert report.tau is not None
    assert report.tau > 0.9


async def test_the_stream_is_untouched_but_for_the_usage_event(make_bench: MakeBench) -> None:
    bench = make_bench(slots=2)
    plain = await bench.request("a")
    asked = await bench.request("b", include_usage=True)
    assert b'"usage"' not in plain
    assert b'"usage":{"prompt_tokens":2,"completion_tokens":3}' in asked
    assert plain.endswith(b"data: [DONE]\n\n")
    assert bench.engine.body(0)["stream_options"] == {"include_usage": True}


async def test_a_whole_answer_is_passed_on_byte_for_byte(make_bench: MakeBench) -> None:
    bench = make_bench()
    body = await bench.request("a", 7, stream=False)
    assert body.startswith(b'{"choices":[{"text":"all"')
    assert "stream_options" not in bench.engine.body()
    assert bench.metrics.ends[0].output_tokens == 7


async def test_the_engine_gets_priority_trace_context_and_request_id(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(live=LiveConfig(policy="FCFS"))
    await asyncio.sleep(12.5)
    await bench.request("a")
    assert bench.engine.body()["priority"] == 12_500  # arrival, since the sidecar's start
    headers = bench.engine.calls[0].headers
    client = bench.spans("text_completion m")[0].get_span_context()
    assert client is not None
    assert headers["traceparent"].split("-")[2] == f"{client.span_id:016x}"
    assert headers["x-request-id"] == "a"


@pytest.mark.parametrize(
    ("key", "expected"),
    [(1.2345, 1234), (-0.0001, -1), (1e300, 2**63 - 1), (-1e300, -(2**63 - 1))],
)
async def test_priority_is_whole_milliseconds_in_64_bits(key: float, expected: int) -> None:
    assert priority(key) == expected


async def test_same_request_id_twice_is_two_requests(make_bench: MakeBench) -> None:
    bench = make_bench(slots=2)
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("a"))
        group.create_task(bench.request("a"))
    ids = {engine_call.headers["x-request-id"] for engine_call in bench.engine.calls}
    assert len(ids) == 2
    assert bench.outcomes() == [("completed", "stop")] * 2


async def test_a_deadline_in_the_queue_evicts(make_bench: MakeBench) -> None:
    bench = make_bench()
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("a", 10))
        await asyncio.sleep(0.1)
        with pytest.raises(RequestEvicted):
            await bench.request("b", timeout_s=2.0)
    assert ("evicted", "deadline") in bench.outcomes()
    assert len(bench.engine.calls) == 1


async def test_a_deadline_while_running_aborts_the_engine(
    make_bench: MakeBench, looptime: float
) -> None:
    bench = make_bench()
    with pytest.raises(DeadlineExceeded):
        await bench.request("a", 100, timeout_s=5.5)
    assert looptime == 5.5
    assert bench.outcomes() == [("cancelled", "deadline")]
    assert bench.engine.aborted == 1
    bench.assert_idle()


async def test_a_cancel_while_running_aborts_and_frees_the_slot(make_bench: MakeBench) -> None:
    bench = make_bench()
    task = asyncio.create_task(bench.request("a", 100))
    await asyncio.sleep(3.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.outcomes() == [("cancelled", "client_gone")]
    assert bench.engine.aborted == 1
    assert bench.predictor.observed == [("a", 3, True)]
    bench.assert_idle()


async def test_a_cancel_in_the_queue_never_reaches_the_engine(make_bench: MakeBench) -> None:
    bench = make_bench()
    first = asyncio.create_task(bench.request("a", 10))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(bench.request("b"))
    await asyncio.sleep(0.1)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert bench.outcomes() == [("cancelled", "client_gone"), ("completed", "stop")]
    assert len(bench.engine.calls) == 1
    assert len(bench.metrics.waits) == 2
    bench.assert_idle()


async def test_a_full_queue_rejects(make_bench: MakeBench) -> None:
    bench = make_bench(live=LiveConfig(max_queued_requests=0))
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("a"))
        await asyncio.sleep(0.1)
        with pytest.raises(RequestRejected):
            await bench.request("b")
    assert bench.outcomes()[0] == ("rejected", "queue_full")
    assert len(bench.spans(names.SPAN_QUEUE)) == 2
    assert len(bench.metrics.waits) == 1


async def test_engine_failures_are_told_apart(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.engine.up = False
    with pytest.raises(EngineUnavailable):
        await bench.request("down")
    bench.engine.up, bench.engine.status = True, 422
    with pytest.raises(EngineRefused) as refused:
        await bench.request("refused")
    assert (refused.value.status, refused.value.body[:9]) == (422, b'{"error":')
    bench.engine.status = 500
    with pytest.raises(EngineRefused):
        await bench.request("failed")
    bench.engine.status, bench.engine.break_after = 200, 2
    with pytest.raises(EngineError):
        await bench.request("broken", 50)
    assert bench.outcomes() == [
        ("failed", "engine_down"),
        ("rejected", "engine_refused"),
        ("failed", "engine_error"),
        ("failed", "engine_down"),
    ]
    bench.assert_idle()


async def test_a_door_that_stops_reading_is_a_cancel(make_bench: MakeBench) -> None:
    bench = make_bench()
    async with bench.pipeline.serve(call("a", 50), door=DOOR) as served:
        async for _ in served.chunks():
            break
    assert bench.outcomes() == [("cancelled", "client_gone")]
    assert bench.engine.aborted == 1


async def test_what_a_door_refuses_is_accounted_for(make_bench: MakeBench) -> None:
    bench = make_bench()
    error = InvalidRequest("no", param="x")
    bench.pipeline.refuse(call("a"), error, door=DOOR, parent=None)
    assert bench.outcomes() == [("rejected", "invalid_request")]
    assert len(bench.spans(DOOR.name)) == 1


async def test_one_trace_tells_the_whole_story(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.predictor.tokens = {"b": 4.0}
    await in_turn(bench, "a", "b")
    server = bench.spans(DOOR.name)[1]
    assert server.context is not None
    assert server.attributes is not None
    children = [
        span
        for span in bench.ended.spans
        if span.parent is not None and span.parent.span_id == server.context.span_id
    ]
    assert {span.name for span in children} == {"predict_length", "queue", "text_completion m"}
    assert server.attributes[names.ATTR_OUTCOME] == "completed"
    assert server.attributes[names.ATTR_PREDICTED] == 4.0
    assert server.attributes[names.ATTR_ACTUAL] == 3
    queue = next(span for span in children if span.name == "queue")
    assert [event.name for event in queue.events] == [
        names.EVENT_OFFER,
        names.EVENT_REKEY,
        names.EVENT_ADMIT,
    ]


async def test_live_settings_take_effect_at_once(make_bench: MakeBench) -> None:
    bench = make_bench(slots=4)
    bench.pipeline.apply_live(LiveConfig(max_concurrency=1))
    await in_turn(bench, "a", "b", "c")
    assert bench.engine.peak == 1
    assert bench.pipeline.snapshot().limit_reason == "max_concurrency"
    with pytest.raises(ValueError, match="policy 'Nope' cannot be deployed; allowed: FCFS, SSJF"):
        bench.pipeline.apply_live(LiveConfig(policy="Nope", max_concurrency=3))
    assert bench.pipeline.snapshot().limit_slots == 1
