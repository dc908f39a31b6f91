"""The trace of a request, however it ends: tree, events in their order, attributes, links."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from llmservice_api.sidecar_config import LiveConfig
from llmservice_sidecar.core.errors import InvalidRequest, LLMServiceError
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.queue_span import MAX_REKEYS
from opentelemetry.sdk.trace import ReadableSpan
from runtime.conftest import DOOR, Bench, MakeBench, call

pytestmark = pytest.mark.looptime

CLIENT: Final = "text_completion m"
OFFER, REKEY, ADMIT = names.EVENT_OFFER, names.EVENT_REKEY, names.EVENT_ADMIT
FIRST, LAST = names.EVENT_FIRST_TOKEN, names.EVENT_LAST_TOKEN
AT_ONCE: Final = {names.ATTR_POLICY, names.ATTR_ORDER, names.ATTR_TAIL_WEIGHT}
AT_THE_END: Final = {names.ATTR_OUTCOME, names.ATTR_REASON, names.ATTR_SAMPLED_BY}
OF_THE_GATE: Final = {names.ATTR_LIMIT_SLOTS, names.ATTR_LIMIT_REASON, names.ATTR_IN_FLIGHT}
OF_A_WAIT: Final = {
    names.ATTR_KEY,
    names.ATTR_GAMMA,
    names.ATTR_QUEUE_POSITION,
    names.ATTR_QUEUE_DEPTH,
    names.ATTR_QUEUE_WAIT_S,
    names.ATTR_OVERTOOK,
    names.ATTR_OVERTAKEN_BY,
}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def events(span: ReadableSpan) -> list[str]:
    times = [event.timestamp for event in span.events]
    assert times == sorted(times)
    return [event.name for event in span.events]


class Story:
    """The spans of one request."""

    def __init__(self, bench: Bench, request_id: str) -> None:
        ended = bench.ended.spans
        self.server = next(
            span
            for span in ended
            if span.name == DOOR.name and attributes(span)[names.ATTR_REQUEST_ID] == request_id
        )
        context = self.server.get_span_context()
        assert context is not None
        self.children = {
            span.name: span
            for span in ended
            if span.parent is not None and span.parent.span_id == context.span_id
        }

    @property
    def ended(self) -> tuple[str, str]:
        told = attributes(self.server)
        return told[names.ATTR_OUTCOME], told[names.ATTR_REASON]


async def refused(work: Awaitable[object]) -> None:
    with pytest.raises(LLMServiceError):
        await work


async def behind_another(bench: Bench, **changes: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("first", 10))
        await asyncio.sleep(0.1)
        await refused(bench.request("x", **changes))


async def served_at_once(bench: Bench) -> None:
    await bench.request("x")


async def served_in_one_piece(bench: Bench) -> None:
    await bench.request("x", stream=False)


async def served_after_a_wait(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("first"))
        await asyncio.sleep(0.1)
        group.create_task(bench.request("x"))


async def rejected(bench: Bench) -> None:
    bench.pipeline.apply_live(LiveConfig(max_queued_requests=0))
    await behind_another(bench)


async def too_large(bench: Bench) -> None:
    await refused(bench.request("x", slots=3))


async def drained(bench: Bench) -> None:
    bench.gate.close()
    await refused(bench.request("x"))


async def timed_out(bench: Bench) -> None:
    bench.pipeline.apply_live(LiveConfig(queue_timeout_s=1.0))
    await behind_another(bench)


async def overdue_in_the_queue(bench: Bench) -> None:
    await behind_another(bench, timeout_s=2.0)


async def overdue_while_it_runs(bench: Bench) -> None:
    await refused(bench.request("x", 100, timeout_s=5.5))


async def cancelled_in_the_queue(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("first", 10))
        await asyncio.sleep(0.1)
        task = asyncio.create_task(bench.request("x"))
        await asyncio.sleep(0.1)
        task.cancel()


async def cancelled_while_it_runs(bench: Bench) -> None:
    task = asyncio.create_task(bench.request("x", 100))
    await asyncio.sleep(3.5)
    task.cancel()


async def engine_down(bench: Bench) -> None:
    bench.engine.up = False
    await refused(bench.request("x"))


async def engine_breaks_off(bench: Bench) -> None:
    bench.engine.break_after = 2
    await refused(bench.request("x", 50))


WAITED, RAN = [OFFER, REKEY], [OFFER, ADMIT]


@pytest.mark.parametrize(
    ("way", "ended", "queue", "client"),
    [
        (served_at_once, ("completed", "stop"), RAN, [FIRST, LAST]),
        (served_in_one_piece, ("completed", "stop"), RAN, [LAST]),
        (served_after_a_wait, ("completed", "stop"), [*WAITED, ADMIT], [FIRST, LAST]),
        (rejected, ("rejected", "queue_full"), [OFFER], None),
        (too_large, ("rejected", "too_large"), [OFFER], None),
        (drained, ("rejected", "draining"), [OFFER], None),
        (timed_out, ("evicted", "queue_timeout"), WAITED, None),
        (overdue_in_the_queue, ("evicted", "deadline"), WAITED, None),
        (overdue_while_it_runs, ("cancelled", "deadline"), RAN, [FIRST]),
        (cancelled_in_the_queue, ("cancelled", "client_gone"), WAITED, None),
        (cancelled_while_it_runs, ("cancelled", "client_gone"), RAN, [FIRST]),
        (engine_down, ("failed", "engine_down"), RAN, []),
        (engine_breaks_off, ("failed", "engine_down"), RAN, [FIRST]),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
async def test_the_whole_story_is_told_of_a_request_that_is(
    make_bench: MakeBench,
    way: Callable[[Bench], Awaitable[None]],
    ended: tuple[str, str],
    queue: list[str],
    client: list[str] | None,
) -> None:
    bench = make_bench()
    await way(bench)
    await asyncio.sleep(1.0)  # what was cancelled has ended
    story = Story(bench, "x")
    assert story.ended == ended
    assert attributes(story.server).keys() >= AT_ONCE | AT_THE_END
    assert attributes(story.server)[names.ATTR_SAMPLED_BY] == "head"
    span = story.children[names.SPAN_QUEUE]
    assert events(span) == queue
    assert attributes(span).keys() >= OF_THE_GATE
    assert (attributes(span).keys() >= OF_A_WAIT) is (ended[0] != "rejected")
    offer = span.events[0].attributes or {}
    decision = "rejected" if ended[0] == "rejected" else "queued" if REKEY in queue else "admitted"
    assert offer[names.ATTR_DECISION] == decision
    assert names.ATTR_PREDICTED in offer
    assert (CLIENT in story.children) is (client is not None)
    if client is not None:
        assert events(story.children[CLIENT]) == client


async def test_prediction_and_truth_stand_beside_each_other(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.predictor.tokens = {"x": 6.0}
    await bench.request("x", 4)
    told = attributes(Story(bench, "x").server)
    assert (told[names.ATTR_PREDICTED], told[names.ATTR_ACTUAL]) == (6.0, 4)
    assert told[names.ATTR_ERROR_RATIO] == 1.5
    assert told[names.ATTR_WITHIN_P90] is True


async def test_rank_and_limit_are_those_of_the_arrival_and_of_the_admission(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(live=LiveConfig(policy="FCFS"))
    async with asyncio.TaskGroup() as group:
        for name in ("first", "second", "x"):
            group.create_task(bench.request(name))
            await asyncio.sleep(0.1)
    told = attributes(Story(bench, "x").children[names.SPAN_QUEUE])
    assert (told[names.ATTR_QUEUE_POSITION], told[names.ATTR_QUEUE_DEPTH]) == (1, 2)
    assert (told[names.ATTR_LIMIT_SLOTS], told[names.ATTR_LIMIT_REASON]) == (1, "slots")
    assert told[names.ATTR_IN_FLIGHT] == 1


async def test_the_overtaken_links_to_those_who_overtook_it_although_they_have_ended(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    short = [f"short{number}" for number in range(10)]
    bench.predictor.tokens = {"long": 900.0, **dict.fromkeys(short, 2.0)}
    async with asyncio.TaskGroup() as group:
        for name in ("first", "long", *short):
            group.create_task(bench.request(name))
            await asyncio.sleep(0.01)
    span = Story(bench, "long").children[names.SPAN_QUEUE]
    assert attributes(span)[names.ATTR_OVERTAKEN_BY] == 10
    assert attributes(span)[names.ATTR_OVERTAKEN_BY_IDS] == tuple(short[:8])
    assert [(link.attributes or {})[names.ATTR_REQUEST_ID] for link in span.links] == short[:8]
    assert [link.context for link in span.links] == [
        Story(bench, name).server.get_span_context() for name in short[:8]
    ]


async def test_one_that_gave_up_says_who_had_overtaken_it(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.predictor.tokens = {"long": 900.0, "short": 2.0}
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("first"))
        await asyncio.sleep(0.1)
        group.create_task(refused(bench.request("long", timeout_s=4.0)))
        await asyncio.sleep(0.1)
        group.create_task(bench.request("short"))
    story = Story(bench, "long")
    assert story.ended == ("evicted", "deadline")
    span = story.children[names.SPAN_QUEUE]
    assert attributes(span)[names.ATTR_OVERTAKEN_BY_IDS] == ("short",)
    assert len(span.links) == 1


async def test_another_policy_is_a_rekey_of_all_that_wait_a_few_times(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(live=LiveConfig(policy="FCFS"))
    bench.predictor.delay_s = 50.0
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("first", 10))
        await asyncio.sleep(0.1)
        group.create_task(bench.request("x"))
        await asyncio.sleep(0.1)
        bench.pipeline.apply_live(LiveConfig(policy="FCFS", max_queued_requests=7))
        for number in range(20):
            bench.pipeline.apply_live(LiveConfig(policy="FCFS" if number % 2 else "SSJF"))
    span = Story(bench, "x").children[names.SPAN_QUEUE]
    told = [event.attributes or {} for event in span.events if event.name == REKEY]
    assert len(told) == MAX_REKEYS
    assert [one[names.ATTR_REKEY_CAUSE] for one in told] == ["policy"] * MAX_REKEYS


async def test_a_request_that_a_door_refuses_says_which_policy_was_there(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    error = InvalidRequest("no", param="n")
    bench.pipeline.refuse(call("x"), error, door=DOOR, parent=None)
    assert attributes(Story(bench, "x").server).keys() >= AT_ONCE | AT_THE_END
