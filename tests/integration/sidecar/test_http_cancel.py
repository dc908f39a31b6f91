"""A thousand clients that leave at random moments, through both kinds of answer: nothing leaks."""

from __future__ import annotations

import asyncio
import random
import re
import time
import urllib.request

import aiohttp
import pytest
from integration.sidecar.clients import chat_body, post_chat
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import LiveConfig

CANCELS = 1000
AT_ONCE = 24  # 4 slots and a queue of 64: most leave while they wait


def engine_running(engine_url: str) -> float:
    with urllib.request.urlopen(f"{engine_url}/metrics", timeout=10) as response:
        text = response.read().decode()
    found = re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.MULTILINE)
    assert found
    return sum(map(float, found))


async def leave_early(sidecar: SidecarProcess, rng: random.Random, counts: dict[str, int]) -> None:
    asked = chat_body(rng.randint(1, 200), stream=rng.random() < 0.7)
    patience_s = rng.choice((0.0, rng.uniform(0, 0.02), rng.uniform(0, 0.5)))
    try:
        async with (
            asyncio.timeout(patience_s),
            aiohttp.ClientSession() as session,
            session.post(f"{sidecar.http}/v1/chat/completions", json=asked) as response,
        ):
            await response.read()
        counts["completed"] += 1
    except TimeoutError:
        counts["left"] += 1


@pytest.mark.timeout(300)
async def test_a_thousand_random_cancels_leak_no_slot(sidecar: SidecarProcess) -> None:
    sidecar.apply(LiveConfig(max_queued_requests=64, generation=77))
    await asyncio.to_thread(await_generation, sidecar, 77)
    rng, counts = random.Random(11), {"completed": 0, "left": 0}
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> None:
        async with turns:
            await leave_early(sidecar, random.Random(seed), counts)

    await asyncio.gather(*(one(rng.getrandbits(32)) for _ in range(CANCELS)))
    assert counts["left"] > CANCELS / 3
    await asyncio.to_thread(
        sidecar.await_status, "all have left", in_flight_slots=0, queued_requests=0
    )
    await asyncio.to_thread(await_idle_engine, sidecar.static.engine.url)
    # Every slot works still: as many answers at once as there are slots, none of them waits.
    answers = await asyncio.gather(*(post_chat(sidecar, chat_body(3)) for _ in range(4)))
    assert [status for status, _, _ in answers] == [200] * 4


def await_generation(sidecar: SidecarProcess, generation: int) -> None:
    deadline = time.monotonic() + 10
    while sidecar.status().generation_applied != generation:
        assert time.monotonic() < deadline, sidecar.log()
        time.sleep(0.05)


def await_idle_engine(url: str) -> None:
    deadline = time.monotonic() + 20
    while (running := engine_running(url)) != 0:
        assert time.monotonic() < deadline, f"the engine still runs {running} requests"
        time.sleep(0.1)
