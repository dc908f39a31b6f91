"""The whole sidecar inside the test's own process, where a test can look into it and stop it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from fakes.otlp_receiver import OtlpReceiver
from fakes.tcp_link import TcpLink
from integration.sidecar.clients import chat_body
from integration.sidecar.conftest import static_config
from llmservice_api.sidecar_config import (
    ConfigError,
    LiveConfig,
    StaticConfig,
    TracingConfig,
    encode_config,
)
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar import __main__ as program
from llmservice_sidecar.adapters.structured_log import JsonFormatter
from llmservice_sidecar.app import App, run

CHAT = "/v1/chat/completions"


@pytest.fixture
def static(engine_latency: EngineProcess, otlp: OtlpReceiver) -> StaticConfig:
    config = static_config(engine_latency, otlp)
    return msgspec.structs.replace(config, tracing=TracingConfig(), drain_timeout_s=5.0)


def live_file(tmp_path: Path, live: LiveConfig | None = None) -> Path:
    path = tmp_path / "live.json"
    path.write_text(encode_config(live or LiveConfig()))
    return path


async def until(condition: Callable[[], bool]) -> None:
    """The file is polled by the sidecar: nobody could tell a test when it has been read."""
    while not condition():  # noqa: ASYNC110 - see above; callers set a timeout
        await asyncio.sleep(0.05)


async def ready(app: App) -> None:
    is_ready = asyncio.Event()
    app.readiness.watch(lambda now: is_ready.set() if now else is_ready.clear())
    async with asyncio.timeout(10):
        await is_ready.wait()


async def test_every_path_of_the_door(static: StaticConfig, tmp_path: Path) -> None:
    app = App(static, live_file(tmp_path))
    async with app.running() as ports, aiohttp.ClientSession() as session:
        await ready(app)
        base = f"http://127.0.0.1:{ports.http_port}"
        for stream in (False, True):
            async with session.post(base + CHAT, json=chat_body(5, stream=stream)) as response:
                assert response.status == 200
                assert await response.read()
        asked: list[tuple[str, str, Any, int]] = [
            ("GET", "/v1/models", None, 200),
            ("GET", "/health", None, 200),
            ("GET", "/metrics", None, 200),
            ("GET", "/nothing", None, 404),
            ("DELETE", "/v1/models", None, 405),
            ("POST", "/tokenize", {"model": "tiny", "prompt": "hello"}, 200),
            ("POST", "/tokenize", {"prompt": "a", "chat_template": "x"}, 400),
            ("POST", "/tokenize", [], 400),
            ("POST", CHAT, {"messages": []}, 400),
            ("POST", CHAT, chat_body(5, temperature=-1), 400),
        ]
        for method, path, body, status in asked:
            async with session.request(method, base + path, json=body) as response:
                assert (path, response.status) == (path, status)
        headers = {"x-request-timeout-ms": "200"}
        for stream in (False, True):
            body = chat_body(900, stream=stream)
            async with session.post(base + CHAT, json=body, headers=headers) as response:
                assert "deadline_exceeded" in await response.text()
        report = app.report()
        assert report.ready
        assert report.queue.in_flight_slots == 0


async def test_an_engine_that_goes_leaves_a_door_that_says_so(
    engine_latency: EngineProcess, static: StaticConfig, tmp_path: Path
) -> None:
    async with TcpLink(engine_latency.port) as link:
        engine = msgspec.structs.replace(static.engine, url=link.url)
        app = App(msgspec.structs.replace(static, engine=engine), live_file(tmp_path))
        async with app.running() as ports, aiohttp.ClientSession() as session:
            await ready(app)
            base = f"http://127.0.0.1:{ports.http_port}"
            async with session.post(base + CHAT, json=chat_body(900, stream=True)) as response:
                await response.content.readany()
                await link.cut()
                last = (await response.text()).strip().split("\n\n")[-1]
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_down"
            for path, status in (("/v1/models", 503), ("/metrics", 200)):
                async with session.get(base + path) as response:
                    assert response.status == status


async def test_leaving_waits_for_nobody_when_the_engine_is_gone(
    static: StaticConfig, tmp_path: Path
) -> None:
    engine = msgspec.structs.replace(static.engine, url="http://127.0.0.1:9")
    app = App(msgspec.structs.replace(static, engine=engine), live_file(tmp_path))
    async with app.running(), asyncio.timeout(2):
        await app.leave()
    assert not app.report().draining


async def test_leaving_announces_first(static: StaticConfig, tmp_path: Path) -> None:
    app = App(static, live_file(tmp_path), announce_s=0.05)
    async with app.running():
        await ready(app)
        await app.leave()
        assert app.report().draining
        assert not app.report().ready


async def test_a_new_live_file_is_taken_over(static: StaticConfig, tmp_path: Path) -> None:
    path = live_file(tmp_path)
    app = App(static, path)
    async with app.running(), asyncio.timeout(10):
        live_file(tmp_path, LiveConfig(generation=3, policy="FCFS"))
        await until(lambda: app.report().generation_applied == 3)
        live_file(tmp_path, LiveConfig(generation=4, policy="Nope"))
        await until(lambda: "Nope" in app.report().config_error)
        assert app.report().queue.policy == "FCFS"
        live_file(tmp_path, LiveConfig(generation=5, sampler_arg="2"))
        await until(lambda: "sampler_arg" in app.report().config_error)
        assert app.report().queue.policy == "FCFS"  # nothing of it is in use


async def test_run_prints_its_ports_and_ends_by_signal(
    static: StaticConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live_file(tmp_path)
    (tmp_path / "static.json").write_text(encode_config(static))
    running = asyncio.create_task(run(tmp_path))
    said = ""
    async with asyncio.timeout(10):
        while "\n" not in said:
            await asyncio.sleep(0.02)
            said += capsys.readouterr().out
        assert json.loads(said)["http_port"] > 0
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        signal.raise_signal(signal.SIGTERM)
        await running


def test_the_command_line_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    monkeypatch.setattr(sys, "argv", ["llmservice_sidecar", "--config-dir", str(tmp_path)])
    try:
        assert program.main() == 1
    finally:
        root.handlers[:] = before
    assert "static.json" in capsys.readouterr().err


async def test_a_bad_live_file_at_the_start_is_an_error(
    static: StaticConfig, tmp_path: Path
) -> None:
    path = tmp_path / "live.json"
    path.write_text('{"max_concurrency": 0}')
    with pytest.raises(ConfigError, match="max_concurrency"):
        App(static, path)


def test_a_log_line_is_one_json_object_with_its_traceback() -> None:
    error = ValueError("why")
    trouble = (ValueError, error, None)
    record = logging.LogRecord("a", logging.ERROR, "f", 1, "it %s", ("broke",), trouble)
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("error", "a", "it broke")
    assert "ValueError: why" in line["traceback"]
