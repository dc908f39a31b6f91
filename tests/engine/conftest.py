"""Real engines, one of each kind for the whole run: a start takes eight to twenty seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from engine.completions import EngineClient
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess


@pytest.fixture(scope="session")
def engine_latency() -> Iterator[EngineProcess]:
    """The latency engine with four slots; a step takes 2 ms."""
    latency = LatencyModel(step_s=2e-3, per_decode_s=0.05e-3, per_prefill_token_s=0.01e-3)
    with EngineProcess(EngineOptions(kind=EngineKind.LATENCY, latency=latency)) as engine:
        yield engine


@pytest.fixture(scope="session")
def engine_tiny() -> Iterator[EngineProcess]:
    """The tiny model with four slots, started as the operator's pod starts vLLM."""
    with EngineProcess(EngineOptions(kind=EngineKind.TINY)) as engine:
        yield engine


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session that keeps no connection beyond its test."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


@pytest.fixture
def latency(engine_latency: EngineProcess, session: aiohttp.ClientSession) -> EngineClient:
    """A client of the latency engine."""
    return EngineClient(engine_latency, session)


@pytest.fixture
def tiny(engine_tiny: EngineProcess, session: aiohttp.ClientSession) -> EngineClient:
    """A client of the tiny model."""
    return EngineClient(engine_tiny, session)
