"""The real server and scheduler around the latency model."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from engine.completions import CHAT, COMPLETIONS, EngineClient
from llmservice_lab.engine.process import EngineProcess

pytestmark = pytest.mark.timeout(300)  # the first test of the run starts the engine

PROMPT = "Explain in two sentences why the sky is blue."
LONG_PROMPT = "The quick brown fox jumps over the lazy dog. " * 80


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("out_len", [1, 2, 50])
async def test_an_answer_has_exactly_the_forced_length(
    latency: EngineClient, path: str, stream: bool, out_len: int
) -> None:
    answer = await latency.ask(PROMPT, path=path, stream=stream, out_len=out_len)
    assert (answer.completion_tokens, answer.finish_reason) == (out_len, "stop")


async def test_an_answer_without_a_forced_length_ends_by_itself(latency: EngineClient) -> None:
    answers = await asyncio.gather(*(latency.ask(f"{i} {PROMPT}") for i in range(8)))
    assert {answer.finish_reason for answer in answers} == {"stop"}
    assert len({answer.completion_tokens for answer in answers}) > 3


async def test_the_same_prompt_gets_the_same_tokens_by_any_way(latency: EngineClient) -> None:
    whole = await latency.ask(PROMPT, path=CHAT, out_len=40)
    assert await latency.ask(PROMPT, path=CHAT, out_len=40, stream=True) == whole
    rendered = await latency.ask(f"<|bos|><|user|>{PROMPT}<|eos|><|assistant|>", out_len=40)
    assert rendered.token_ids == whole.token_ids


async def test_ignore_eos_runs_to_max_tokens(latency: EngineClient) -> None:
    answer = await latency.ask(PROMPT, out_len=5, ignore_eos=True, max_tokens=20)
    assert (answer.completion_tokens, answer.finish_reason) == (20, "length")


async def test_a_cached_prefix_changes_nothing_but_time(latency: EngineClient) -> None:
    first = await latency.ask(LONG_PROMPT, out_len=30)
    hits = await latency.metric("vllm:prefix_cache_hits_total")
    assert await latency.ask(LONG_PROMPT, out_len=30) == first
    assert await latency.metric("vllm:prefix_cache_hits_total") > hits


async def test_a_disconnect_frees_the_slot(latency: EngineClient) -> None:
    body = latency.body(PROMPT, out_len=1500, max_tokens=1800) | {"stream": True}
    started = [asyncio.Event() for _ in range(4)]

    async def read(event: asyncio.Event) -> None:
        async for _ in latency.events(COMPLETIONS, body):
            event.set()

    readers = [asyncio.create_task(read(event)) for event in started]
    async with asyncio.timeout(20):
        await asyncio.gather(*(event.wait() for event in started))
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await latency.metric_reaches("vllm:num_requests_running", 0)
    assert (await latency.ask(PROMPT, out_len=3)).completion_tokens == 3


async def test_the_lower_priority_number_is_served_first(latency: EngineClient) -> None:
    order: list[int] = []

    async def ask(priority: int, out_len: int) -> None:
        await latency.ask(f"{priority} {PROMPT}", out_len=out_len, priority=priority)
        order.append(priority)

    holders = [asyncio.create_task(ask(-1, 400)) for _ in range(4)]
    await latency.metric_reaches("vllm:num_requests_running", 4)
    # Four slots come free at once and serve four of the eight: the order shows in who is first.
    late = [asyncio.create_task(ask(10 - i, 60)) for i in range(8)]
    await asyncio.gather(*holders, *late)
    assert set(order[4:8]) == {3, 4, 5, 6}


async def test_models_health_and_tokenize_are_the_real_ones(
    latency: EngineClient, engine_latency: EngineProcess, session: aiohttp.ClientSession
) -> None:
    models = await latency.get_json("/v1/models")
    assert [model["id"] for model in models["data"]] == ["tiny"]
    async with session.post(
        f"{engine_latency.url}/tokenize", json={"model": "tiny", "prompt": PROMPT}
    ) as response:
        assert len((await response.json())["tokens"]) > 5


async def test_steps_take_their_time(latency: EngineClient) -> None:
    started = time.perf_counter()
    await latency.ask(PROMPT, out_len=100)
    # 100 steps of 2 ms: the model is waited for. There is no upper bound on a busy machine.
    assert time.perf_counter() - started > 0.2
