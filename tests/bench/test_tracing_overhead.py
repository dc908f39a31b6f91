"""What tracing costs at 100 % sampling, with a collector that lives, is gone, or never answers.

64 streams of 50 tokens a second, answers of 200 tokens: 16 requests a second. Four sidecars stand
in front of one engine and take the load in turns, in an order drawn anew each round: without an
exporter, with a collector, with nobody listening at its address, and with one that takes
connections and never answers. A request of that load costs some 17 ms of CPU, most of it for its
chunks, which come together by chance; so what its spans cost (they are the same for every length)
is seen through answers of two tokens. Figures only; run with `make overheads` on a quiet machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
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
FLUSH_S: Final = 5.5  # spans leave every 5 s
RESULTS: Final = Path("demo")
SHORT_ROUNDS: Final = 16
SHORT_REQUESTS: Final = 320  # of a turn
SHORT_AT_ONCE: Final = 16
PATH: Final = "/v1/chat/completions"
RATE_RPS: Final = STREAMS * TOKENS_PER_S / ANSWER_TOKENS
OFF: Final = "no exporter"
COLLECTOR: Final = "collector"
_DROPPED: Final = re.compile(rb"^llmservice_spans_dropped_total ([0-9.e+]+)$", re.MULTILINE)


@dataclass(slots=True)
class Way:
    """One sidecar, and what was measured of it."""

    sidecar: SidecarProcess
    cpu_ms: list[float] = field(default_factory=list[float])  # per request, of each turn
    loop_ms: list[float] = field(default_factory=list[float])  # of it on the event loop's thread
    total_s: list[float] = field(default_factory=list[float])
    first_token_s: list[float] = field(default_factory=list[float])

    def cpu_s(self) -> tuple[float, float]:
        """Of all its threads, those that have ended too, and of its first one, the loop's."""
        process = Path(f"/proc/{self.sidecar.process.pid}")
        user, system = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
        loop_ns = int((process / "schedstat").read_text().split()[0])
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"), loop_ns / 1e9


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
            COLLECTOR: collector.endpoint,
            "collector gone": refusing,
            "collector silent": silent,
        }
        started = dict[str, Way]()
        try:
            for name, endpoint in endpoints.items():
                sidecar = SidecarProcess(_static(engine, endpoint), tmp_path / name, environ={})
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


async def one_request(
    session: aiohttp.ClientSession, way: Way, number: int, *, tokens: int = ANSWER_TOKENS
) -> None:
    body: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"prompt number {number} " + "word " * 50}],
        "stream": True,
        "max_tokens": tokens,
        "vllm_xargs": {"out_len": tokens},
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
    async with _measured(way, STREAMS * PER_STREAM) as session:

        async def stream(place: int) -> None:
            await asyncio.sleep(place / RATE_RPS)
            for again in range(PER_STREAM):
                await one_request(session, way, first_number + place * PER_STREAM + again)

        await asyncio.gather(*(stream(place) for place in range(STREAMS)))


async def short_turn(way: Way, *, first_number: int) -> None:
    """Answers of two tokens, always so many at once."""
    numbers = iter(range(first_number, first_number + SHORT_REQUESTS))
    async with _measured(way, SHORT_REQUESTS) as session:

        async def one_after_the_other() -> None:
            for number in numbers:
                await one_request(session, way, number, tokens=2)

        await asyncio.gather(*(one_after_the_other() for _ in range(SHORT_AT_ONCE)))


@contextlib.asynccontextmanager
async def _measured(way: Way, requests: int) -> AsyncGenerator[aiohttp.ClientSession]:
    before_s, loop_before_s = way.cpu_s()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session
    await asyncio.sleep(FLUSH_S)
    after_s, loop_after_s = way.cpu_s()
    way.cpu_ms.append((after_s - before_s) * 1e3 / requests)
    way.loop_ms.append((loop_after_s - loop_before_s) * 1e3 / requests)


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


Turn = Callable[..., Awaitable[None]]


async def take_turns(ways: Mapping[str, Way], turn: Turn, *, rounds: int) -> None:
    """Every way once a round, in an order drawn anew; what comes before the first is forgotten."""
    order = random.Random(SEED)
    number = 0
    for round_number in range(1 + rounds):
        for name in order.sample(sorted(ways), len(ways)):
            await turn(ways[name], first_number=number)
            number += SHORT_REQUESTS
        if round_number == 0:  # caches and connections are warm now
            for way in ways.values():
                way.cpu_ms, way.loop_ms, way.total_s, way.first_token_s = [], [], [], []


def publish(name: str, **result: Any) -> None:
    """Into a file, and for whoever looks on."""
    document = {"commit": commit(), "seed": SEED, "hardware": hardware(), **result}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


@pytest.mark.timeout(900)
async def test_what_a_traced_request_costs(ways: dict[str, Way]) -> None:
    pair = {name: ways[name] for name in (OFF, COLLECTOR)}
    await take_turns(pair, short_turn, rounds=SHORT_ROUNDS)
    off, traced = (pair[name] for name in (OFF, COLLECTOR))
    more_ms = [mine - theirs for mine, theirs in zip(traced.cpu_ms, off.cpu_ms, strict=True)]
    publish(
        "bench-traced-request",
        requests_each=SHORT_ROUNDS * SHORT_REQUESTS,
        cpu_ms_per_request=fmean(off.cpu_ms),
        more_cpu_ms_per_request=fmean(more_ms),
        of_it_on_the_loop_ms=fmean(traced.loop_ms) - fmean(off.loop_ms),
        standard_error_ms=stdev(more_ms) / len(more_ms) ** 0.5,
        at_requests_per_s=RATE_RPS,
        more_cpu_percent_of_a_core=fmean(more_ms) * RATE_RPS / 10,
        bar_percent_of_a_core=1.0,
    )


@pytest.mark.timeout(900)
async def test_what_tracing_costs(ways: dict[str, Way]) -> None:
    await take_turns(ways, turn, rounds=ROUNDS)
    closed = {name: await asyncio.to_thread(close, way) for name, way in ways.items()}
    publish(
        "bench-tracing",
        requests_each=len(ways[OFF].total_s),
        requests_per_s=RATE_RPS,
        bars={"more_cpu_percent_of_a_core": 1.0, "total_p99_ratio": 1.02, "shutdown_s": 2.0},
        ways={
            name: figures(way, ways[OFF], closed_s=closed[name][0], dropped=closed[name][1])
            for name, way in ways.items()
        },
    )
