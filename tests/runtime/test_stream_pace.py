"""Who held a streamed answer up is on its span: the engine between chunks, or the client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from llmservice_sidecar.runtime import telemetry_names as names
from runtime.conftest import DOOR, Bench, MakeBench, call

pytestmark = pytest.mark.looptime

CLIENT_SPAN = "text_completion m"


def told(bench: Bench) -> Mapping[str, object]:
    attributes = bench.spans(CLIENT_SPAN)[0].attributes
    assert attributes is not None
    return attributes


async def test_the_longest_gap_is_the_engine_s_and_a_prompt_reader_stalls_nothing(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    async with bench.pipeline.serve(call("a", out_len=4), door=DOOR) as served:
        async for _ in served.chunks():
            bench.engine.step_s = 5.0 if bench.engine.step_s == 1.0 else 0.5
    assert told(bench)[names.ATTR_LONGEST_GAP_S] == pytest.approx(5.0)
    assert told(bench)[names.ATTR_CLIENT_STALL_S] == pytest.approx(0.0)


async def test_a_client_that_reads_slowly_stalls_and_makes_no_gap(make_bench: MakeBench) -> None:
    bench = make_bench()
    async with bench.pipeline.serve(call("a", out_len=4), door=DOOR) as served:
        read = 0
        async for _ in served.chunks():
            read += 1
            await asyncio.sleep(3.0)
    assert told(bench)[names.ATTR_CLIENT_STALL_S] == pytest.approx(3.0 * read)
    assert told(bench)[names.ATTR_LONGEST_GAP_S] == pytest.approx(1.0)


async def test_what_is_left_to_write_at_the_end_is_a_stall(make_bench: MakeBench) -> None:
    bench = make_bench()
    async with bench.pipeline.serve(call("a", out_len=2), door=DOOR) as served:
        assert [chunk async for chunk in served.chunks()]
        await asyncio.sleep(7.0)
    assert told(bench)[names.ATTR_CLIENT_STALL_S] == pytest.approx(7.0)


async def test_a_client_that_leaves_without_reading_has_stalled_until_then(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    async with bench.pipeline.serve(call("a", out_len=9), door=DOOR) as served:
        chunks = served.chunks()
        await anext(chunks)
        await asyncio.sleep(4.0)
    assert told(bench)[names.ATTR_CLIENT_STALL_S] == pytest.approx(4.0)


async def test_an_answer_in_one_piece_says_neither(make_bench: MakeBench) -> None:
    bench = make_bench()
    body: dict[str, object] = {"prompt": "a", "stream": False, "vllm_xargs": {"out_len": 3}}
    one_piece = call("a", stream=False, body=body)
    async with bench.pipeline.serve(one_piece, door=DOOR) as served:
        assert [chunk async for chunk in served.chunks()]
    assert names.ATTR_LONGEST_GAP_S not in told(bench)
    assert names.ATTR_CLIENT_STALL_S not in told(bench)


async def test_what_the_client_asked_for_is_on_the_door_s_span(make_bench: MakeBench) -> None:
    bench = make_bench()
    async with bench.pipeline.serve(call("a", timeout_s=60.0), door=DOOR) as served:
        assert [chunk async for chunk in served.chunks()]
    attributes = bench.spans(DOOR.name)[0].attributes
    assert attributes is not None
    assert attributes[names.ATTR_TIMEOUT_S] == 60.0
    assert attributes[names.ATTR_PRIORITY] == 0
