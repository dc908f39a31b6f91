"""`llmservice queue` in front of a real sidecar whose two slots are in use."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from fakes.staged_engine import StagedEngine
from integration.sidecar.running import SidecarProcess
from llmservice_api.queue_view import MOST_ROWS, decode_queue_view
from llmservice_api.sidecar_config import (
    EngineConfig,
    ListenConfig,
    LiveConfig,
    ModelConfig,
    PriorityLevelConfig,
    StaticConfig,
)
from llmservice_local.commands.queue import document
from llmservice_local.queue_sources import UrlSource
from llmservice_local.queue_text import queue_lines

CANARY = "heliotrope-canary"
WAITING = 5
LIVE = LiveConfig(
    policy="FCFS",
    max_concurrency=2,
    priority_levels=(
        PriorityLevelConfig(name="interactive", value=10),
        PriorityLevelConfig(name="batch", value=-10),
    ),
)


@asynccontextmanager
async def busy(directory: Path) -> AsyncGenerator[SidecarProcess]:
    """A sidecar with two long answers in flight and five requests that wait."""
    async with StagedEngine() as engine:
        static = StaticConfig(
            service="chat",
            namespace="team",
            model=ModelConfig(name="chat"),
            engine=EngineConfig(
                url=engine.url, slots=4, max_model_len=100_000, allowed_extra_args=("out_len",)
            ),
            listen=ListenConfig(
                host="127.0.0.1", http_port=0, grpc_port=0, ops_port=0, admin_port=0
            ),
        )
        sidecar = SidecarProcess(static, directory, LIVE)
        await asyncio.to_thread(sidecar.__enter__)
        calls: list[asyncio.Task[bytes]] = []
        try:
            async with aiohttp.ClientSession() as session:
                for number in range(2 + WAITING):
                    name = f"runs-{number}" if number < 2 else f"waits-{number - 2}"
                    level = "interactive" if number == 1 + WAITING else "batch"
                    calls.append(asyncio.create_task(call(session, sidecar, name, level)))
                    await asyncio.to_thread(
                        sidecar.await_status,
                        name,
                        timeout_s=60.0,
                        in_flight_slots=min(number + 1, 2),
                        queued_requests=max(number - 1, 0),
                    )
                yield sidecar
                for task in calls:
                    task.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await asyncio.to_thread(sidecar.__exit__, None, None, None)


async def call(
    session: aiohttp.ClientSession, sidecar: SidecarProcess, name: str, level: str
) -> bytes:
    """A streamed answer that takes minutes."""
    body = {
        "model": "chat",
        "prompt": f"tell me of {CANARY}",
        "max_tokens": 8000,
        "stream": True,
        "vllm_xargs": {"out_len": 8000},
    }
    headers = {"X-Request-Id": name, "x-llmservice-priority": level}
    url = f"{sidecar.http}/v1/completions"
    async with session.post(url, json=body, headers=headers) as response:
        return await response.read()


async def command(sidecar: SidecarProcess, *arguments: str) -> str:
    """What `llmservice queue` prints into a pipe."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "llmservice_local", "queue", "--url", sidecar.admin, *arguments],
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def watched(sidecar: SidecarProcess) -> tuple[int, str]:
    """Watch for two looks, then Ctrl-C: how it ended, and what it said of errors."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "llmservice_local", "queue", "--url", sidecar.admin],
        *["--watch", "--interval", "0.2"],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    looks = 0
    while looks < 2:
        looks += b"5 waiting" in await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_who_runs_and_who_waits_is_told_while_they_do(tmp_path: Path) -> None:
    async with busy(tmp_path) as sidecar:
        replicas = await UrlSource(sidecar.admin).read(MOST_ROWS)
        printed = await command(sidecar, "--limit", "3")
        (told,) = json.loads(await command(sidecar, "--json", "-"))["replicas"]
        assert await watched(sidecar) == (0, "")
        async with aiohttp.ClientSession() as session:
            assert (await session.get(f"{sidecar.ops}/queue")).status == 404
    view = replicas[0].view
    assert view is not None
    assert (view.in_flight_requests, view.queue.queued_requests) == (2, WAITING)
    assert [row.id for row in view.in_flight] == ["runs-0", "runs-1"]
    assert [row.id for row in view.waiting] == ["waits-4", *(f"waits-{n}" for n in range(4))]
    assert [row.position for row in view.waiting] == list(range(WAITING))
    assert view.waiting[0].held_by == "max_concurrency"
    assert view.waiting[1].ahead.higher_priority == 1
    assert view.waiting[4].ahead.arrived_earlier == 3
    assert all(row.waited_s > 0 and row.predicted.source for row in view.waiting)
    again = decode_queue_view(json.dumps(told["view"]).encode())
    assert [row.id for row in again.waiting] == [row.id for row in view.waiting]
    assert "Waiting (first 3 of 5)" in printed
    assert "maxConcurrency: 2 of 2 in use" in printed
    lines = queue_lines("chat", replicas, width=80, rows=20)
    assert CANARY not in printed + "".join(lines) + json.dumps(document("chat", replicas))
