"""Requests slowed on purpose, through a real sidecar: the report names what was done to each."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from fakes.staged_engine import StagedEngine
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import (
    EngineConfig,
    ListenConfig,
    LiveConfig,
    ModelConfig,
    PriorityLevelConfig,
    StaticConfig,
    TracingConfig,
)
from llmservice_local.cli import app
from typer.testing import CliRunner

SLOTS: Final = 8
EACH: Final = 10  # requests slowed by each cause
USUAL_WORDS: Final = 40
SLOW_S: Final = 1.5
PAUSE_S: Final = 2.5
WIDE: Final = 64 * 1024  # bytes an event: more than any buffer on the way holds of 60 of them


class Drills:
    """Sends requests; those with a cause are remembered by it."""

    def __init__(self, sidecar: SidecarProcess, session: aiohttp.ClientSession) -> None:
        self._sidecar = sidecar
        self._session = session
        self._count = 0
        self.causes: dict[str, str] = {}  # by request id

    async def ask(
        self,
        cause: str | None = None,
        *,
        words: int = USUAL_WORDS,
        priority: str = "high",
        read_after_s: float = 0.0,
        **asked: int,
    ) -> None:
        """One request to its end. `read_after_s`: the client lets the answer lie for so long."""
        self._count += 1
        request_id = f"{cause or 'usual'}-{self._count}"
        if cause is not None:
            self.causes[request_id] = cause
        body = {
            "model": "tiny",
            "prompt": "word " * words,
            "stream": True,
            "max_tokens": 500,
            "vllm_xargs": {"out_len": 20, **asked},
        }
        headers = {"x-request-id": request_id, "x-llmservice-priority": priority}
        url = f"{self._sidecar.http}/v1/completions"
        async with self._session.post(url, json=body, headers=headers) as response:
            assert response.status == 200, await response.text()
            await asyncio.sleep(read_after_s)
            assert b"[DONE]" in await response.read()

    async def together(self, *asks: Coroutine[Any, Any, None]) -> None:
        """All at once."""
        await asyncio.gather(*asks)

    async def queue_behind(self, count: int) -> None:
        """Wait until all slots are in use and `count` requests wait."""
        async with asyncio.timeout(10):
            await asyncio.to_thread(
                self._sidecar.await_status, "drill", queued_requests=count, in_flight_slots=SLOTS
            )


async def drill(drills: Drills) -> None:
    """A calm beginning, then one cause after the other, beside usual requests where that tells."""
    for _ in range(10):
        await drills.together(*(drills.ask() for _ in range(SLOTS)))
    for _ in range(2):
        slow = [drills.ask("long_prefill", words=5000) for _ in range(EACH // 2)]
        await drills.together(*slow, drills.ask(), drills.ask())
        slow = [
            drills.ask("slow_client", out_len=60, pad=WIDE, read_after_s=4.0)
            for _ in range(EACH // 2)
        ]
        await drills.together(*slow, drills.ask(), drills.ask())
    pause = round(PAUSE_S * 1000)
    for count in (4, 3, 3):
        slow = [drills.ask("engine_preempted", pause_after=5, pause_ms=pause) for _ in range(count)]
        await drills.together(*slow, *(drills.ask(out_len=140) for _ in range(4)))
    await behind_others(drills)
    await behind_later_ones(drills)


async def behind_others(drills: Drills) -> None:
    """Ten requests that come when all slots are in use for three seconds."""
    async with asyncio.TaskGroup() as group:
        for _ in range(SLOTS):
            group.create_task(drills.ask(out_len=120))
        await drills.queue_behind(0)
        for _ in range(EACH):
            group.create_task(drills.ask("deep_queue"))


async def behind_later_ones(drills: Drills) -> None:
    """Ten requests of low priority, and forty of high priority that come after them."""
    async with asyncio.TaskGroup() as group:
        for _ in range(SLOTS):
            group.create_task(drills.ask(out_len=120))
        await drills.queue_behind(0)
        for _ in range(EACH):
            group.create_task(drills.ask("overtaken", priority="low"))
        await drills.queue_behind(EACH)
        # More work than the first ones had left: that is what the ten wait for most.
        for _ in range(5 * SLOTS):
            group.create_task(drills.ask(out_len=60))


def _narrow(_address: object) -> socket.socket:
    """A client's socket whose receive buffer holds little, so that not reading is felt."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    return made


@pytest.fixture
def levels() -> LiveConfig:
    high, low = PriorityLevelConfig("high", 10), PriorityLevelConfig("low", 0)
    return LiveConfig(priority_levels=(high, low))


@pytest.mark.timeout(300)
async def test_the_report_names_the_right_cause_for_48_of_50(
    tmp_path: Path, levels: LiveConfig
) -> None:
    spans = tmp_path / "spans.jsonl"
    async with StagedEngine() as engine:
        static = StaticConfig(
            service="chat",
            namespace="team",
            model=ModelConfig(name="tiny"),
            engine=EngineConfig(
                url=engine.url,
                slots=SLOTS,
                max_model_len=16_384,
                allowed_extra_args=("out_len", "pause_after", "pause_ms", "pad"),
            ),
            listen=ListenConfig(
                host="127.0.0.1", http_port=0, grpc_port=0, ops_port=0, admin_port=0
            ),
            tracing=TracingConfig(exporter_endpoint=str(spans), exporter="otlp-file"),
        )
        # No connection is used twice: its buffers would have grown by then.
        connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_narrow)
        process = SidecarProcess(static, tmp_path / "sidecar", levels)
        sidecar = await asyncio.to_thread(process.__enter__)
        try:
            async with aiohttp.ClientSession(connector=connector, read_bufsize=2**12) as session:
                drills = Drills(sidecar, session)
                await drill(drills)
        finally:
            await asyncio.to_thread(process.__exit__, None, None, None)
    assert len(drills.causes) == 5 * EACH
    found = told_causes(spans, tmp_path)
    wrong = {
        request_id: (cause, found.get(request_id))
        for request_id, cause in drills.causes.items()
        if found.get(request_id, {}).get("cause") != cause
    }
    assert len(wrong) <= 2, json.dumps(wrong, indent=1)


def told_causes(spans: Path, directory: Path) -> dict[str, dict[str, Any]]:
    """By request id: what `llmservice report --json` lists."""
    arguments = ["report", str(spans), "--slow", str(SLOW_S), "--json", "-"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(directory / "report.html")])
    assert result.exit_code == 0, result.output
    listed = json.loads(result.stdout)["slow"]["listed"]
    return {one["request_id"]: one for one in listed}
