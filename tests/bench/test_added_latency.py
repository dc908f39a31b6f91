"""What the sidecar adds to the time to first token: both ways alternating in one run. Figures only.

Run with `make bench`; another load on the machine shows in both ways and in the tail.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import aiohttp
import pytest
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import EngineConfig, ListenConfig, ModelConfig, StaticConfig
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess

REQUESTS: Final = 500  # of each way
WARM_UP: Final = 20
RESULT: Final = Path("demo/bench-added-latency.json")
PATH: Final = "/v1/chat/completions"


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    options = EngineOptions(kind=EngineKind.LATENCY, latency=LatencyModel(step_s=2e-3))
    with EngineProcess(options) as running:
        yield running


@pytest.fixture(scope="module")
def sidecar(
    engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SidecarProcess]:
    static = StaticConfig(
        service="bench",
        namespace="bench",
        model=ModelConfig(name="tiny"),
        engine=EngineConfig(url=engine.url, slots=4, allowed_extra_args=("out_len",)),
        listen=ListenConfig(host="127.0.0.1", http_port=0, grpc_port=0, ops_port=0, admin_port=0),
    )
    with SidecarProcess(static, tmp_path_factory.mktemp("bench")) as process:
        yield process


async def first_token_s(session: aiohttp.ClientSession, base: str, number: int) -> float:
    """Seconds from the request to the first bytes of the answer."""
    body: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"prompt number {number} " + "word " * 50}],
        "stream": True,
        "max_tokens": 8,
        "vllm_xargs": {"out_len": 4},
    }
    started = time.perf_counter()
    async with session.post(base + PATH, json=body) as response:
        await response.content.readany()
        elapsed = time.perf_counter() - started
        await response.read()
    assert response.status == 200
    return elapsed


def figures(times_s: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(times_s, n=100)
    return {"p50_ms": cuts[49] * 1e3, "p90_ms": cuts[89] * 1e3, "p99_ms": cuts[98] * 1e3}


@pytest.mark.timeout(300)
async def test_added_time_to_first_token(engine: EngineProcess, sidecar: SidecarProcess) -> None:
    direct, through = list[float](), list[float]()
    async with aiohttp.ClientSession() as session:
        for number in range(WARM_UP):
            await first_token_s(session, engine.url, number)
            await first_token_s(session, sidecar.http, number)
        for number in range(REQUESTS):
            ways = [(direct, engine.url), (through, sidecar.http)]
            for times, base in ways if number % 2 else reversed(ways):
                times.append(await first_token_s(session, base, number))
    result = {
        "requests_each": REQUESTS,
        "direct": figures(direct),
        "through": figures(through),
        "added_p50_ms": figures(through)["p50_ms"] - figures(direct)["p50_ms"],
        "added_p99_ms": figures(through)["p99_ms"] - figures(direct)["p99_ms"],
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
