"""What the scheduler does when the KV cache or a step is too small, and the spans it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest
from engine.completions import COMPLETIONS, EngineClient
from engine.spans import SpanSink, attributes
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.process import EngineOptions, EngineProcess

pytestmark = pytest.mark.timeout(300)  # the first test of the run starts the engine

PROMPT = "Explain in two sentences why the sky is blue."
LONG_PROMPT = "The quick brown fox jumps over the lazy dog. " * 40


@pytest.fixture(scope="module")
def collector() -> Iterator[SpanSink]:
    """A collector of spans in this process."""
    with SpanSink() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def cramped(collector: SpanSink) -> Iterator[EngineProcess]:
    """An engine with a KV cache of 2,560 tokens and prefill chunks of 256, traced."""
    options = EngineOptions(
        latency=LatencyModel(step_s=0.5e-3, per_decode_s=0, per_prefill_token_s=0),
        max_model_len=1536,
        arguments=(
            "--kv-cache-memory-bytes=640K",
            "--max-num-batched-tokens=256",
            f"--otlp-traces-endpoint={collector.endpoint}",
        ),
        environment={"OTEL_BSP_SCHEDULE_DELAY": "100"},
    )
    with EngineProcess(options) as engine:
        yield engine


async def test_preempted_answers_are_whole(
    cramped: EngineProcess, session: aiohttp.ClientSession
) -> None:
    client = EngineClient(cramped, session)
    prompts = [f"{i} {PROMPT}" for i in range(4)]
    # Two of these answers do not fit at the same time.
    alone = [await client.ask(prompt, out_len=1400, max_tokens=1450) for prompt in prompts]
    assert await client.metric("vllm:num_preemptions_total") == 0
    # One request with all prompts: they begin together.
    body = client.body("", out_len=1400, max_tokens=1450) | {"prompt": prompts}
    async with session.post(f"{cramped.url}{COMPLETIONS}", json=body) as response:
        assert response.status == 200, await response.text()
        together = await response.json()
    assert await client.metric("vllm:num_preemptions_total") > 0
    assert [
        (one["text"], tuple(one["token_ids"]), one["finish_reason"]) for one in together["choices"]
    ] == [(one.text, one.token_ids, one.finish_reason) for one in alone]
    usage = together["usage"]
    assert usage["completion_tokens"] == sum(one.completion_tokens for one in alone)
    assert usage["prompt_tokens"] == sum(one.prompt_tokens for one in alone)


async def test_a_prompt_longer_than_a_chunk_is_answered(
    cramped: EngineProcess, session: aiohttp.ClientSession
) -> None:
    answer = await EngineClient(cramped, session).ask(LONG_PROMPT, out_len=20)
    assert answer.prompt_tokens > 2 * 256
    assert answer.completion_tokens == 20


async def test_a_sampled_request_leaves_a_span_with_its_time_in_queue(
    cramped: EngineProcess, session: aiohttp.ClientSession, collector: SpanSink
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with session.post(
        f"{cramped.url}{COMPLETIONS}",
        json=EngineClient(cramped, session).body(PROMPT, out_len=4),
        headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"},
    ) as response:
        assert response.status == 200
    span = await asyncio.to_thread(collector.wait_for, trace_id, "llm_request")
    values = attributes(span)
    assert 0 <= values["gen_ai.latency.time_in_queue"] < 60
    assert values["gen_ai.usage.completion_tokens"] == 4
