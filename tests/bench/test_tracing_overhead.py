"""What tracing costs at 100 % sampling, with a collector that lives, is gone, or never answers.

64 streams of 50 tokens a second, answers of 200 tokens: 16 requests a second. Four sidecars stand
in front of one engine and take the load in turns, in an order drawn anew each round: without an
exporter, with a collector, with nobody listening at its address, and with one that takes
connections and never answers. Figures only; run with `make overheads` on a quiet machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, quantiles, stdev
from typing import Any, Final

import aiohttp
import pytest
from fakes.otlp_receiver import OtlpReceiver
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import (
    EngineConfig,
    ListenConfig,
    ModelConfig,
    StaticConfig,
    TracingConfig,
)
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess
from llmservice_lab.provenance import commit, hardware

STREAMS: Final = 64
TOKENS_PER_S: Final = 50
ANSWER_TOKENS: Final = 200
ROUNDS: Final = 6
PER_STREAM: Final = 2  # requests of each stream in a turn
SEED: Final = 1
FLUSH_S: Final = 1.5  # spans leave every second
RESULT: Final = Path("demo/bench-tracing.json")
PATH: Final = "/v1/chat/completions"
RATE_RPS: Final = STREAMS * TOKENS_PER_S / ANSWER_TOKENS
OFF: Final = "no exporter"
_DROPPED: Final = re.compile(rb"^llmservice_spans_dropped_total ([0-9.e+]+)$", re.MULTILINE)


@dataclass(slots=True)
class Way:
    """One sidecar, and what was measured of it."""

    sidecar: SidecarProcess
    cpu_ms: list[float] = field(default_factory=list[float])  # per request, of each turn
    total_s: list[float] = field(default_factory=list[float])
    first_token_s: list[float] = field(default_factory=list[float])

    def cpu_s(self) -> float:
        """Of all its threads, from the scheduler's own account in nanoseconds."""
        tasks = Path(f"/proc/{self.sidecar.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    options = EngineOptions(
        kind=EngineKind.LATENCY,
        max_num_seqs=STREAMS,
        latency=LatencyModel(step_s=1 / TOKENS_PER_S),
    )
    with EngineProcess(options) as running:
        yield running


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address where nobody listens; bound, so that nobody else will."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"


@pytest.fixture
def ways(
    engine: EngineProcess, silent: str, refusing: str, tmp_path: Path
) -> Iterator[dict[str, Way]]:
    with OtlpReceiver() as collector:
        endpoints = {
            OFF: None,
            "collector": collector.endpoint,
            "collector gone": refusing,
            "collector silent": silent,
        }
        started = dict[str, Way]()
        try:
            for name, endpoint in endpoints.items():
                sidecar = SidecarProcess(_static(engine, endpoint), tmp_path / name)
                started[name] = Way(sidecar.__enter__())
            yield started
        finally:
            for way in started.values():
                if way.sidecar.process.poll() is None:
                    way.sidecar.__exit__(None, None, None)


def _static(engine: EngineProcess, endpoint: str | None) -> StaticConfig:
    return StaticConfig(
        service="bench",
        namespace="bench",
        model=ModelConfig(name="tiny"),
        engine=EngineConfig(url=engine.url, slots=STREAMS, allowed_extra_args=("out_len",)),
        listen=ListenConfig(host="127.0.0.1", http_port=0, grpc_port=0, ops_port=0, admin_port=0),
        tracing=TracingConfig(exporter_endpoint=endpoint, sampler="always_on"),
    )


async def one_request(session: aiohttp.ClientSession, way: Way, number: int) -> None:
    body: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"prompt number {number} " + "word " * 50}],
        "stream": True,
        "max_tokens": ANSWER_TOKENS,
        "vllm_xargs": {"out_len": ANSWER_TOKENS},
    }
    started = time.perf_counter()
    async with session.post(way.sidecar.http + PATH, json=body) as response:
        await response.content.readany()
        way.first_token_s.append(time.perf_counter() - started)
        await response.read()
        assert response.status == 200
    way.total_s.append(time.perf_counter() - started)


async def turn(way: Way, *, first_number: int) -> None:
    """All streams once, beginning one after the other at the rate of the load."""
    before_s = way.cpu_s()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def stream(place: int) -> None:
            await asyncio.sleep(place / RATE_RPS)
            for again in range(PER_STREAM):
                await one_request(session, way, first_number + place * PER_STREAM + again)

        await asyncio.gather(*(stream(place) for place in range(STREAMS)))
    await asyncio.sleep(FLUSH_S)
    way.cpu_ms.append((way.cpu_s() - before_s) * 1e3 / (STREAMS * PER_STREAM))


def p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98]


def figures(way: Way, off: Way, *, closed_s: float, dropped: float) -> dict[str, float]:
    """Of one way, beside the one without an exporter."""
    more_ms = [mine - theirs for mine, theirs in zip(way.cpu_ms, off.cpu_ms, strict=True)]
    of_a_core = RATE_RPS / 10  # percent of a core for each millisecond of a request
    return {
        "cpu_ms_per_request": fmean(way.cpu_ms),
        "more_cpu_percent_of_a_core": fmean(more_ms) * of_a_core,
        "standard_error": stdev(more_ms) / len(more_ms) ** 0.5 * of_a_core,
        "total_p99_s": p99(way.total_s),
        "total_p99_ratio": p99(way.total_s) / p99(off.total_s),
        "first_token_p99_ms": p99(way.first_token_s) * 1e3,
        "first_token_p99_ratio": p99(way.first_token_s) / p99(off.first_token_s),
        "shutdown_s": closed_s,
        "dropped_spans": dropped,
    }


def close(way: Way) -> tuple[float, float]:
    """Seconds that the process takes to end, and the spans that it has lost before."""
    found = _DROPPED.search(way.sidecar.get("/metrics"))
    started = time.monotonic()
    way.sidecar.__exit__(None, None, None)
    return time.monotonic() - started, 0.0 if found is None else float(found[1])


@pytest.mark.timeout(900)
async def test_what_tracing_costs(ways: dict[str, Way]) -> None:
    order = random.Random(SEED)
    number = 0
    for round_number in range(1 + ROUNDS):
        for name in order.sample(sorted(ways), len(ways)):
            await turn(ways[name], first_number=number)
            number += STREAMS * PER_STREAM
        if round_number == 0:  # caches and connections are warm now
            for way in ways.values():
                way.cpu_ms, way.total_s, way.first_token_s = [], [], []
    closed = {name: await asyncio.to_thread(close, way) for name, way in ways.items()}
    result = {
        "commit": commit(),
        "seed": SEED,
        "hardware": hardware(),
        "requests_each": len(ways[OFF].total_s),
        "requests_per_s": RATE_RPS,
        "bars": {"more_cpu_percent_of_a_core": 1.0, "total_p99_ratio": 1.02, "shutdown_s": 2.0},
        "ways": {
            name: figures(way, ways[OFF], closed_s=closed[name][0], dropped=closed[name][1])
            for name, way in ways.items()
        },
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
