"""What one sidecar has learned: known to its successor, and to its replica, over the real ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest
from fakes.otlp_receiver import OtlpReceiver
from integration.sidecar.clients import CANARY, chat_body
from integration.sidecar.conftest import static_config
from llmservice_api import names
from llmservice_api.sidecar_config import (
    KeepConfig,
    LiveConfig,
    PredictorConfig,
    StaticConfig,
    TracingConfig,
    encode_config,
)
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar.app import App, Ports
from llmservice_sidecar.runtime.ports import PredictionQuery

REQUESTS = 40
LENGTH = 3
QUERY = PredictionQuery(text=f"tell me of {CANARY}", prompt_tokens=7, endpoint="chat", model="tiny")


@pytest.fixture
def static(engine_latency: EngineProcess, otlp: OtlpReceiver) -> StaticConfig:
    return msgspec.structs.replace(static_config(engine_latency, otlp), tracing=TracingConfig())


def sidecar(static: StaticConfig, directory: Path, keep: KeepConfig) -> App:
    directory.mkdir(parents=True, exist_ok=True)
    live = directory / "live.json"
    live.write_text(encode_config(LiveConfig()))
    predictor = PredictorConfig(timeout_s=10.0, keep=keep)
    return App(msgspec.structs.replace(static, predictor=predictor), live)


async def until(condition: Callable[[], bool]) -> None:
    """Nobody could tell a test when it has happened; the caller's timeout ends it."""
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.02)


async def teach(app: App, ports: Ports) -> None:
    """Serve answers that are much shorter than anyone would expect."""
    await until(lambda: app.readiness.ready)
    url = f"http://127.0.0.1:{ports.http_port}/v1/chat/completions"
    async with aiohttp.ClientSession() as session:
        for _ in range(REQUESTS):
            async with session.post(url, json=chat_body(LENGTH)) as response:
                assert response.status == 200
                await response.read()
    await until(lambda: app.report().predictor.learned >= REQUESTS)


async def expected_tokens(app: App) -> float:
    return (await app.pipeline.predict(QUERY)).output_tokens


@pytest.mark.timeout(60)
async def test_a_restarted_sidecar_knows_what_it_knew(static: StaticConfig, tmp_path: Path) -> None:
    keep = KeepConfig(state_path=str(tmp_path / "volume" / "state"))
    first = sidecar(static, tmp_path, keep)
    async with first.running() as ports:
        untaught = await expected_tokens(first)
        await teach(first, ports)
        known = await expected_tokens(first)
    assert known < 0.7 * untaught
    second = sidecar(static, tmp_path, keep)
    async with second.running():
        assert await expected_tokens(second) == pytest.approx(known, rel=0.05)
        assert second.report().predictor.learned == REQUESTS


@pytest.mark.timeout(60)
async def test_a_replica_learns_through_the_name_of_the_service(
    static: StaticConfig, tmp_path: Path
) -> None:
    teacher = sidecar(static, tmp_path / "teacher", KeepConfig())
    async with teacher.running() as ports:
        await teach(teacher, ports)
        peers = KeepConfig(peers_host="localhost", peers_port=ports.ops_port)
        learner = sidecar(static, tmp_path / "learner", peers)
        untaught = await expected_tokens(learner)
        async with learner.running(), asyncio.timeout(30):
            # Nothing tells when a replica has been asked: the timeout ends it.
            while await expected_tokens(learner) > 0.7 * untaught:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.mark.timeout(60)
async def test_what_is_shared_is_numbers(static: StaticConfig, tmp_path: Path) -> None:
    app = sidecar(static, tmp_path, KeepConfig())
    async with app.running() as ports, aiohttp.ClientSession() as session:
        await teach(app, ports)
        for path in (names.PATH_STATISTICS, names.PATH_SNAPSHOT):
            async with session.get(f"http://127.0.0.1:{ports.ops_port}{path}") as response:
                payload = await response.read()
            assert len(payload) > 1000
            assert CANARY.encode() not in payload
            assert b"tiny" not in payload
