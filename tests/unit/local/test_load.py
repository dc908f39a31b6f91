"""The open-loop generator: when requests leave, and what is read of their answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from llmservice_lab.calls import CallFactory, common_max_tokens, prompt_text
from llmservice_lab.capacity import completed_per_second
from llmservice_lab.load import Call, LoadClient, replay
from llmservice_lab.workload import WorkloadRequest

pytestmark = pytest.mark.timeout(20)

CALL = Call(path="/v1/chat/completions", body={"model": "m"}, trace_id="a" * 32, span_id="b" * 16)
EVENTS = (
    b'data: {"choices":[{"delta":{"content":"\\"usage\\""}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}\n\n',
    b"data: [DONE]\n\n",
)


def row(*, output_tokens: int = 10, prompt: str | None = "Hello") -> WorkloadRequest:
    return WorkloadRequest(
        arrival_s=0.0, prompt=prompt, prompt_tokens=3, output_tokens=output_tokens
    )


@pytest.mark.looptime
async def test_slow_answers_do_not_delay_later_requests() -> None:
    loop = asyncio.get_running_loop()
    begun_s: list[float] = []

    async def send(index: int, due_s: float) -> int:
        begun_s.append(loop.time())
        assert loop.time() == pytest.approx(due_s)
        await asyncio.sleep(1000)
        return index

    start_s = loop.time()
    results = await replay([0.0, 0.5, 0.5, 3.0], send, clock=loop.time)
    assert results == [0, 1, 2, 3]
    assert [at - start_s for at in begun_s] == pytest.approx([0.0, 0.5, 0.5, 3.0])


@pytest.mark.looptime
async def test_lateness_does_not_add_up() -> None:
    loop = asyncio.get_running_loop()
    drift_s = 0.0

    def late_clock() -> float:
        # Every look at the clock costs time: a replay that counts gaps would fall behind for good.
        nonlocal drift_s
        drift_s += 0.01
        return loop.time() + drift_s

    due_s: list[float] = []

    async def send(index: int, due: float) -> None:
        due_s.append(due)

    await replay([float(at) for at in range(50)], send, clock=late_clock)
    assert due_s[-1] - due_s[0] == pytest.approx(49.0)


async def test_arrivals_out_of_order_are_refused() -> None:
    async def send(index: int, due_s: float) -> None: ...

    with pytest.raises(ValueError, match="ascend"):
        await replay([1.0, 0.5], send)


@asynccontextmanager
async def answering(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], *, timeout_s: float = 5.0
) -> AsyncGenerator[LoadClient]:
    app = web.Application()
    app.router.add_post(CALL.path, handler)
    async with (
        TestServer(app) as server,
        LoadClient(str(server.make_url("")), timeout_s=timeout_s) as client,
    ):
        yield client


async def test_a_streamed_answer_is_counted_by_its_usage() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["traceparent"])
        seen.append(request.headers["x-team"])
        response = web.StreamResponse(headers={"x-llmservice-queue-ms": "250"})
        await response.prepare(request)
        for event in EVENTS:
            await response.write(event[:9])
            await response.write(event[9:])
        return response

    async with answering(handler) as client:
        reply = await client.send(replace(CALL, headers={"x-team": "search"}), due_s=0.0)
    assert reply.completed
    assert (reply.output_tokens, reply.prompt_tokens) == (7, 5)
    assert reply.queue_wait_s == pytest.approx(0.25)
    assert reply.first_s is not None
    assert reply.sent_s <= reply.first_s <= reply.done_s
    assert seen == [f"00-{'a' * 32}-{'b' * 16}-01", "search"]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(
            429, b'{"error":{"message":"full"}}', "HTTP 429: full", id="the server's own words"
        ),
        pytest.param(502, b"bad gateway", "HTTP 502: bad gateway", id="a body that is no JSON"),
        pytest.param(200, EVENTS[0], "the stream ended before", id="a stream that is cut off"),
        pytest.param(
            200, b'data: {"error":{"message":"died"}}\n\n', "died", id="an error inside the stream"
        ),
    ],
)
async def test_a_failed_request_says_why(status: int, body: bytes, expected: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body)

    async with answering(handler) as client:
        reply = await client.send(CALL, due_s=0.0)
    assert not reply.completed
    assert expected in reply.error


async def test_no_server_is_a_failed_request() -> None:
    async with LoadClient("http://127.0.0.1:9", timeout_s=5) as client:
        reply = await client.send(CALL, due_s=0.0)
    assert reply.status == 0
    assert "Connect" in reply.error


async def test_an_answer_that_takes_too_long_is_a_failed_request() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with answering(handler, timeout_s=0.05) as client:
        reply = await client.send(CALL, due_s=0.0)
    assert "no complete answer within" in reply.error


def test_requests_differ_in_nothing_but_prompt_and_forced_length() -> None:
    factory = CallFactory(model="m", max_tokens=64, force_lengths=True)
    rng = random.Random(1)
    bodies = [dict(factory.call(row(output_tokens=n), rng=rng).body) for n in (3, 50)]
    assert [body.pop("vllm_xargs") for body in bodies] == [{"out_len": 3}, {"out_len": 50}]
    assert bodies[0] == bodies[1]
    assert bodies[0]["max_tokens"] == 64


def test_a_request_says_whose_it_is_and_how_long_it_has() -> None:
    factory = CallFactory(model="m", max_tokens=64, force_lengths=True)
    rng = random.Random(1)
    mine = replace(row(), tenant="search", deadline_s=1.5, priority=3)
    assert factory.call(row(), rng=rng).headers == {}
    assert factory.call(mine, rng=rng).headers == {
        "x-gateway-inference-fairness-id": "search",
        "x-request-timeout-ms": "1500",
    }


def test_without_the_processor_no_length_is_sent() -> None:
    factory = CallFactory(model="m", max_tokens=64, force_lengths=False)
    assert "vllm_xargs" not in factory.call(row(), rng=random.Random(1)).body


def test_max_tokens_is_one_round_number_for_all() -> None:
    assert common_max_tokens([row(output_tokens=n) for n in (3, 65)]) == 128


def test_a_recording_without_text_gets_a_filler() -> None:
    assert prompt_text(row(prompt=None)) == "word word word "


def test_capacity_is_taken_from_the_middle_of_the_completions() -> None:
    done_s = [0.0] * 5 + [float(at) for at in range(1, 41)] + [1000.0] * 5
    assert completed_per_second(done_s) == pytest.approx(1.0)


def test_capacity_needs_ten_requests() -> None:
    with pytest.raises(ValueError, match="got 3"):
        completed_per_second([1.0, 2.0, 3.0])
