"""What a call says of its urgency and what it is told of its wait; on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llmservice_api.sidecar_config import LiveConfig, PriorityLevelConfig
from llmservice_sidecar.core.errors import InvalidRequest, RequestEvicted, RequestRejected
from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.call import OnQueued, Place
from opentelemetry.sdk.trace import ReadableSpan
from runtime.conftest import DOOR, Bench, MakeBench, call

pytestmark = pytest.mark.looptime

LEVELS = LiveConfig(
    tail_weight=0.0,
    priority_levels=(
        PriorityLevelConfig(name="batch", value=-10),
        PriorityLevelConfig(name="interactive", value=10),
    ),
)


async def learned(bench: Bench) -> Bench:
    """Ten answers have shown that three tokens take three seconds."""
    bench.predictor.tokens = dict.fromkeys(map(str, range(10)), 3.0)
    for number in range(10):
        await bench.request(str(number))
    bench.order.clear()
    return bench


async def test_a_hint_lowers_and_cannot_raise(make_bench: MakeBench) -> None:
    bench = make_bench(live=LEVELS)
    bench.predictor.tokens = {"a": 900.0, "b": 800.0, "low": 1.0}
    async with asyncio.TaskGroup() as group:
        for name, hint in (("first", None), ("low", "batch"), ("a", None), ("b", "interactive")):
            group.create_task(bench.request(name, priority=hint))
            await asyncio.sleep(0.01)
    # With the highest level's name one stands where one would without it: the shorter is first.
    assert bench.order == ["first", "b", "a", "low"]


@pytest.mark.parametrize(
    ("live", "allowed"),
    [(LEVELS, "batch, interactive"), (LiveConfig(), "none, this service has no priority levels")],
    ids=["levels", "no levels"],
)
async def test_an_unknown_hint_is_refused_with_what_is_allowed(
    make_bench: MakeBench, live: LiveConfig, allowed: str
) -> None:
    bench = make_bench(live=live)
    with pytest.raises(InvalidRequest) as refused:
        await bench.request("a", priority="urgent")
    assert str(refused.value) == f"x-llmservice-priority is 'urgent'; allowed: {allowed}"
    assert refused.value.param == "x-llmservice-priority"
    assert bench.outcomes() == [("rejected", "invalid_request")]
    bench.assert_idle()


async def test_a_call_wider_than_its_level_is_refused(make_bench: MakeBench) -> None:
    level = PriorityLevelConfig(name="batch", value=0, max_concurrency=2)
    bench = make_bench(slots=4, live=LiveConfig(priority_levels=(level,)))
    with pytest.raises(RequestRejected, match="or its priority runs at once") as refused:
        await bench.request("wide", slots=3)
    assert refused.value.retry_after_s is None
    assert bench.outcomes() == [("rejected", "too_large")]
    bench.assert_idle()


async def test_caps_and_promotion_take_effect_at_once(make_bench: MakeBench) -> None:
    bench = make_bench(slots=2, live=LEVELS)
    capped = PriorityLevelConfig(name="batch", value=-10, max_concurrency=1)
    bench.pipeline.apply_live(LiveConfig(promote_after_s=1.0, priority_levels=(capped,)))
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(bench.request(name))
        await asyncio.sleep(1)
        assert bench.order == ["a"]
    assert bench.order == ["a", "b"]


async def test_a_deadline_out_of_reach_is_refused_before_it_waits(make_bench: MakeBench) -> None:
    bench = await learned(make_bench())
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("long", 30))
        await asyncio.sleep(0.5)
        with pytest.raises(RequestRejected, match=r"the deadline is in 0\.1 s") as refused:
            await bench.request("hasty", timeout_s=0.1)
        assert refused.value.retry_after_s is not None
        await bench.request("patient", timeout_s=1000.0)
    assert ("rejected", "deadline_unreachable") in bench.outcomes()
    assert bench.order == ["long", "patient"]


async def test_who_gave_its_place_away_is_evicted_with_a_retry_time(make_bench: MakeBench) -> None:
    bench = make_bench(
        live=LiveConfig(max_queued_requests=1, priority_levels=LEVELS.priority_levels)
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("first"))
        await asyncio.sleep(0.1)
        low = group.create_task(refusal_of(bench, "low", priority="batch"))
        await asyncio.sleep(0.1)
        group.create_task(bench.request("high"))
    error = await low
    assert isinstance(error, RequestEvicted)
    assert error.retry_after_s is not None
    assert ("evicted", "queue_share") in bench.outcomes()
    evicted = next(
        span for span in bench.spans(DOOR.name) if names.ATTR_RETRY_AFTER_S in tags(span)
    )
    assert tags(evicted)[names.ATTR_REASON] == "queue_share"


async def test_the_queue_span_tells_the_predicted_wait_and_the_bound(make_bench: MakeBench) -> None:
    bench = await learned(make_bench(live=LiveConfig(tail_weight=1.0)))
    bench.predictor.tokens |= {"first": 3.0, "second": 3.0}
    async with asyncio.TaskGroup() as group:
        for name in ("first", "second"):
            group.create_task(bench.request(name))
            await asyncio.sleep(0.01)
    first, second = (tags(span) for span in bench.spans(names.SPAN_QUEUE)[-2:])
    assert names.ATTR_PREDICTED_WAIT_S not in first  # it had not to wait
    expected, real = (second[names.ATTR_PREDICTED_WAIT_S], second[names.ATTR_QUEUE_WAIT_S])
    assert expected == pytest.approx(real, abs=1.0)  # a token takes a second
    assert second[names.ATTR_OVERTAKING_BOUND_S] >= 0
    assert bench.metrics.foreseen == [(expected, real)]


async def test_no_bound_is_told_where_none_is_promised(make_bench: MakeBench) -> None:
    bench = await learned(make_bench(live=LiveConfig(tail_weight=0.0)))
    async with asyncio.TaskGroup() as group:
        for name in ("first", "second"):
            group.create_task(bench.request(name))
            await asyncio.sleep(0.01)
    assert names.ATTR_OVERTAKING_BOUND_S not in tags(bench.spans(names.SPAN_QUEUE)[-1])


async def test_who_waits_can_be_asked_for_its_place(make_bench: MakeBench) -> None:
    bench = await learned(make_bench())
    told = list[Place]()

    async def on_queued(place: Place) -> None:
        told.append(place)

    async with bench.pipeline.serve(call("first"), door=DOOR):
        waiting = asyncio.create_task(enter(bench, on_queued))
        await asyncio.sleep(0.01)
        place = bench.pipeline.place(RequestId("second"))
        assert place is not None
        assert (place.standing.position, place.standing.depth) == (0, 1)
        assert bench.pipeline.place(RequestId("first")) is None
        assert [one.standing.depth for one in told] == [1]
        assert told[0].predicted_wait_s is not None
    await waiting
    assert bench.pipeline.place(RequestId("second")) is None


async def enter(bench: Bench, on_queued: OnQueued) -> None:
    async with bench.pipeline.serve(call("second"), door=DOOR, on_queued=on_queued):
        pass


async def refusal_of(bench: Bench, name: str, *, priority: str) -> Exception:
    with pytest.raises((RequestEvicted, RequestRejected)) as refused:
        await bench.request(name, priority=priority)
    return refused.value


def tags(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
