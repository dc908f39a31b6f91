"""A sidecar's life: engine gone and back, live configuration, drain, signals."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import msgspec
import pytest
from fakes.otlp_receiver import OtlpReceiver
from fakes.tcp_link import TcpLink
from integration.sidecar.clients import chat_body, post_chat
from integration.sidecar.conftest import SLOTS, static_config
from integration.sidecar.running import SidecarProcess
from integration.sidecar.test_http_cancel import await_generation
from llmservice_api.sidecar_config import LiveConfig, StaticConfig, encode_config
from llmservice_lab.engine.process import EngineProcess


@pytest.fixture
def config(engine_latency: EngineProcess, otlp: OtlpReceiver) -> StaticConfig:
    return static_config(engine_latency, otlp)


@pytest.fixture
def own_sidecar(config: StaticConfig, tmp_path: Path) -> Iterator[SidecarProcess]:
    """A sidecar that the test may end."""
    with SidecarProcess(config, tmp_path) as process:
        yield process


def ready_status(sidecar: SidecarProcess) -> bool:
    return sidecar.status().ready


async def until(condition: bool, sidecar: SidecarProcess, *, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while ready_status(sidecar) is not condition:
        assert time.monotonic() < deadline, sidecar.log()
        await asyncio.sleep(0.05)


async def test_engine_down_and_back(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path: Path
) -> None:
    async with TcpLink(engine_latency.port) as link:
        config = static_config(engine_latency, otlp, engine_url=link.url)
        sidecar = SidecarProcess(config, tmp_path)
        await asyncio.to_thread(sidecar.__enter__)
        try:
            stream = asyncio.create_task(streamed(sidecar))
            await asyncio.sleep(0.5)
            await link.cut()
            assert '"error"' in await stream
            await until(False, sidecar)
            status, _, answer = await post_chat(sidecar, chat_body(2))
            assert (status, answer["error"]["code"]) == (503, "engine_down")
            link.mend()
            await until(True, sidecar)
            status, _, _ = await post_chat(sidecar, chat_body(2))
            assert status == 200
            assert sidecar.status().queue.in_flight_slots == 0
        finally:
            await asyncio.to_thread(sidecar.__exit__, None, None, None)


async def streamed(sidecar: SidecarProcess) -> str:
    asked = chat_body(900, stream=True)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sidecar.http}/v1/chat/completions", json=asked) as response,
    ):
        return await response.text()


def test_live_configuration_is_taken_over_and_a_bad_one_refused(
    own_sidecar: SidecarProcess,
) -> None:
    own_sidecar.apply(LiveConfig(generation=5, policy="FCFS", max_concurrency=2))
    await_generation(own_sidecar, 5)
    queue = own_sidecar.status().queue
    assert (queue.policy, queue.limit_slots, queue.limit_reason) == ("FCFS", 2, "max_concurrency")
    (own_sidecar.directory / "live.json").write_text('{"policyy": "SSJF"}')
    deadline = time.monotonic() + 10
    while not (error := own_sidecar.status().config_error):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "policyy" in error
    assert own_sidecar.status().generation_applied == 5
    assert "live configuration refused" in own_sidecar.log()
    own_sidecar.apply(LiveConfig(generation=6))
    await_generation(own_sidecar, 6)
    assert own_sidecar.status().config_error == ""
    assert own_sidecar.status().queue.limit_slots == SLOTS


async def test_drain_finishes_what_is_here_and_refuses_what_comes(
    own_sidecar: SidecarProcess,
) -> None:
    running = asyncio.create_task(post_chat(own_sidecar, chat_body(1200, max_tokens=1500)))
    await asyncio.to_thread(own_sidecar.await_status, "running", in_flight_slots=1)
    with ThreadPoolExecutor(1) as pool:
        drain = pool.submit(
            lambda: urllib.request.urlopen(f"{own_sidecar.admin}/drain", timeout=60).read()
        )
        await until(False, own_sidecar)
        status, headers, _ = await post_chat(own_sidecar, chat_body(2))
        assert status == 200  # endpoints still point here
        assert headers["Connection"] == "close"  # the next request finds another pod
        await asyncio.sleep(5.2)
        status, headers, answer = await post_chat(own_sidecar, chat_body(2))
        assert (status, answer["error"]["code"]) == (503, "draining")
        assert headers["Connection"] == "close"
        assert (await running)[0] == 200
        assert b"true" in await asyncio.wrap_future(drain)


async def test_sigterm_lets_a_running_answer_end(own_sidecar: SidecarProcess) -> None:
    running = asyncio.create_task(post_chat(own_sidecar, chat_body(400)))
    await asyncio.to_thread(own_sidecar.await_status, "running", in_flight_slots=1)
    own_sidecar.process.send_signal(signal.SIGTERM)
    assert (await running)[0] == 200
    assert await asyncio.to_thread(own_sidecar.process.wait, 20) == 0


async def test_a_second_signal_ends_at_once(own_sidecar: SidecarProcess) -> None:
    running = asyncio.create_task(post_chat(own_sidecar, chat_body(1900, max_tokens=2000)))
    await asyncio.to_thread(own_sidecar.await_status, "running", in_flight_slots=1)
    own_sidecar.process.send_signal(signal.SIGTERM)
    await until(False, own_sidecar)
    own_sidecar.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(own_sidecar.process.wait, 10) == 0
    with pytest.raises(aiohttp.ClientError):
        await running


def test_a_bad_start_names_its_cause(
    config: StaticConfig, own_sidecar: SidecarProcess, tmp_path: Path
) -> None:
    taken = msgspec.structs.replace(config.listen, http_port=own_sidecar.ports.http_port)
    directory = tmp_path / "second"
    directory.mkdir()
    (directory / "live.json").write_text("{}")
    (directory / "static.json").write_text(
        encode_config(msgspec.structs.replace(config, listen=taken))
    )
    assert f"127.0.0.1:{own_sidecar.ports.http_port}" in failed_start(directory)
    (directory / "live.json").write_text('{"tail_weight": -1}')
    assert "tail_weight" in failed_start(directory)
    (directory / "static.json").unlink()
    assert "static.json" in failed_start(directory)


def failed_start(directory: Path) -> str:
    command = [sys.executable, "-m", "llmservice_sidecar", "--config-dir", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr
