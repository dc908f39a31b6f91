"""A thousand prompts with a canary: it is in no span, log line, metric, status or snapshot."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import msgspec
import pytest
from aiohttp import web
from fakes.otlp_receiver import OtlpReceiver
from fakes.quoting_engine import QuotingEngine
from integration.sidecar import loud_sidecar
from integration.sidecar.canary_load import AT_ONCE, CANARY, CanaryLoad
from integration.sidecar.conftest import static_config
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import LiveConfig, StaticConfig, TracingConfig
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar.adapters.ops_server import OpsSources, admin_app, ops_app
from llmservice_sidecar.runtime import telemetry_names as names

PROMPTS: Final = 800  # to a real engine, whose errors are what they are
QUOTED: Final = 200  # to one that quotes the prompt in all it says
LOUD: Final = (str(Path(loud_sidecar.__file__)),)
LIVE: Final = LiveConfig(max_queued_requests=AT_ONCE // 2)
pytestmark = pytest.mark.timeout(300)


@dataclass
class Told:
    """All that a sidecar has told anybody but its clients, by where."""

    pages: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    def leaks(self) -> list[str]:
        """Where the canary is, with what stands around it."""
        found: list[str] = []
        for place, page in self.pages:
            at = page.find(CANARY.encode())
            if at >= 0:
                found.append(f"{place}: ...{page[max(0, at - 200) : at + 60]!r}")
        return found

    def of(self, place: str) -> bytes:
        """All of one place."""
        return b"".join(page for where, page in self.pages if where == place)


@asynccontextmanager
async def loud(static: StaticConfig, directory: Path, told: Told) -> AsyncGenerator[SidecarProcess]:
    """The loud sidecar; what it tells while it runs, and its output in the end, are added."""
    process = SidecarProcess(static, directory, LIVE, program=LOUD)
    sidecar = await asyncio.to_thread(process.__enter__)
    try:
        watching = asyncio.create_task(watch(sidecar, told))
        yield sidecar
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await read_pages(sidecar, told)
        told.pages.append(("stdout", rest_of_stdout(sidecar)))
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)
        told.pages.append(("stderr", sidecar.log().encode()))


async def watch(sidecar: SidecarProcess, told: Told) -> None:
    """Read everything again and again, while requests wait and run."""
    while True:
        await read_pages(sidecar, told)
        await asyncio.sleep(0.5)


async def read_pages(sidecar: SidecarProcess, told: Told) -> None:
    urls = [(path, f"{sidecar.ops}{path}") for path in paths(ops_app)]
    urls += [(path, f"{sidecar.admin}{path}") for path in paths(admin_app) if path != "/drain"]
    urls += [("door", f"{sidecar.http}/metrics"), ("models", f"{sidecar.http}/v1/models")]
    accepted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with aiohttp.ClientSession() as session:
        for place, url in urls:
            for headers in (accepted, {}):
                async with session.get(url, headers=headers) as response:
                    told.pages.append((place, await response.read()))


def paths(port: Callable[[OpsSources], web.Application]) -> list[str]:
    """Whatever a port for machines serves, later additions included."""
    app = port(cast("OpsSources", None))
    found = [resource.canonical for resource in app.router.resources()]
    assert {"/status", "/drain"} & {*found}
    return found


def rest_of_stdout(sidecar: SidecarProcess) -> bytes:
    assert sidecar.process.stdout is not None
    os.set_blocking(sidecar.process.stdout.fileno(), False)
    return sidecar.process.stdout.read() or b""


async def test_of_a_real_engine_no_prompt_and_no_answer_is_told(
    engine_latency: EngineProcess, tmp_path: Path
) -> None:
    told = Told()
    with OtlpReceiver() as otlp:
        static = static_config(engine_latency, otlp)
        async with loud(static, tmp_path, told) as sidecar:
            load = CanaryLoad(sidecar)
            await load.run(PROMPTS)
        spans = otlp.spans()
        told.pages += [("spans", raw) for raw in otlp.raw]
    assert load.sent == PROMPTS
    assert told.leaks() == []
    # That it was worth looking: the canary was there, and everything was told.
    assert sum(CANARY.encode() in answer for answer in load.told) > PROMPTS / 20
    endings = {
        (span.attributes[names.ATTR_OUTCOME], span.attributes[names.ATTR_REASON])
        for span in spans
        if names.ATTR_OUTCOME in span.attributes
    }
    assert {
        ("completed", "stop"),
        ("completed", "length"),
        ("rejected", "invalid_request"),
        ("rejected", "engine_refused"),
    } <= endings
    assert_loud(told)


async def test_of_an_engine_that_quotes_nothing_is_told(
    engine_latency: EngineProcess, tmp_path: Path
) -> None:
    told = Told()
    file = tmp_path / "spans.jsonl"
    async with QuotingEngine() as engine:
        static = msgspec.structs.replace(
            static_config(engine_latency, OtlpReceiver(), engine_url=engine.url),
            tracing=TracingConfig(exporter_endpoint=str(file), exporter="otlp-file"),
        )
        async with loud(static, tmp_path, told) as sidecar:
            load = CanaryLoad(sidecar, first=PROMPTS)
            await load.run(QUOTED)
    told.pages.append(("spans", file.read_bytes()))
    assert engine.asked > QUOTED / 8
    assert told.leaks() == []
    assert sum(CANARY.encode() in answer for answer in load.told) > QUOTED / 10
    for reason in ("engine_down", "engine_refused", "engine_error"):
        assert f'"{reason}"'.encode() in told.of("spans")
    assert_loud(told)


def assert_loud(told: Told) -> None:
    """The log has every level, the predictor's failures and the door's own."""
    text = told.of("stderr").splitlines()
    lines: list[dict[str, Any]] = [json.loads(line) for line in text if line.startswith(b"{")]
    assert {"debug", "info", "error"} <= {line["level"] for line in lines}
    messages = "\n".join(line["message"] for line in lines)
    assert "predictor failed with ValueError" in messages
    assert "failed inside the sidecar" in messages
    assert "RuntimeError" in messages
