"""What the default predictor costs: CPU time of a prediction, a lesson and an exchange between
replicas, memory of what replicas told and of the sidecar.

Times are printed, on the clock of one thread; the memory is asserted, for it hardly varies.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Final, TypeVar

import pytest
from integration.sidecar.clients import grpc_stub
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import EngineConfig, ListenConfig, ModelConfig, StaticConfig
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess
from llmservice_sidecar.adapters.predictors.cache import CachedDescriptions
from llmservice_sidecar.adapters.predictors.learned import sharing, snapshot
from llmservice_sidecar.adapters.predictors.learned.online import MAX_PEERS, OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.packing import Packed
from llmservice_sidecar.adapters.predictors.learned.sharing import MAX_HEADS
from llmservice_sidecar.adapters.predictors.learned.turns import step
from llmservice_sidecar.adapters.predictors.shipped.base import default_base
from llmservice_sidecar.runtime.ports import PredictionQuery
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

PROMPTS: Final = 600
PROMPT_TOKENS: Final = 2000
MODELS: Final = 3
MOST_MIB: Final = 300.0
MOST_TOLD_MB: Final = 60.0
T = TypeVar("T")
README: Final = Path(__file__).parents[2] / "README.md"


def texts() -> list[str]:
    """Prompts of about 2,000 tokens, none like another."""
    words = README.read_text(encoding="utf-8").split()
    rng = random.Random(1)
    return [" ".join(rng.choices(words, k=PROMPT_TOKENS * 3 // 4)) for _ in range(PROMPTS)]


def timed_ms(act: Callable[[PredictionQuery], object], queries: Sequence[PredictionQuery]) -> str:
    taken: list[float] = []
    for query in queries:
        started = time.thread_time()
        act(query)
        taken.append((time.thread_time() - started) * 1e3)
    cuts = quantiles(taken, n=100)
    return f"p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms"


def test_a_prediction_and_a_lesson_in_cpu_time() -> None:
    predictor = OnlinePredictor()
    queries = [
        PredictionQuery(
            text=text, prompt_tokens=PROMPT_TOKENS, endpoint="chat", model=f"m{number % MODELS}"
        )
        for number, text in enumerate(texts())
    ]
    rng = random.Random(2)

    def learn(query: PredictionQuery) -> None:
        predictor.observe(query, output_tokens=rng.randint(1, 900), censored=False)

    print(f"\nprediction, untaught: {timed_ms(predictor.predict, queries)}")
    print(f"lesson: {timed_ms(learn, queries)}")
    print(f"prediction, taught: {timed_ms(predictor.predict, queries)}")


def steps_ms(work: Generator[None, None, T]) -> tuple[T, list[float]]:
    """What some work came to, and the CPU time of each of its steps."""
    taken: list[float] = []
    while True:
        started = time.thread_time()
        ended = step(work)
        taken.append((time.thread_time() - started) * 1e3)
        if ended is not None:
            return ended[0], taken


def hear(learner: OnlinePredictor, payload: bytes) -> tuple[list[float], list[float]]:
    """Milliseconds of each step that it takes to read what `MAX_PEERS` replicas tell, to merge."""
    told: dict[str, Mapping[str, Packed]] = {}
    reading: list[float] = []
    for number in range(MAX_PEERS):
        said, taken = steps_ms(sharing.decoding(learner.base, payload))
        told[f"{number:016x}"] = said.lessons
        reading += taken
    return reading, steps_ms(learner.merging(told))[1]


def test_16_replicas_that_tell_of_16_models_in_cpu_time_and_memory() -> None:
    base = CachedDescriptions(default_base(), entries=PROMPTS)
    teller, learner = OnlinePredictor(base), OnlinePredictor(base)
    rng = random.Random(3)
    for text in texts():
        for number in range(MAX_HEADS):
            query = PredictionQuery(
                text=text, prompt_tokens=PROMPT_TOKENS, endpoint="chat", model=f"m{number}"
            )
            teller.observe(query, output_tokens=rng.randint(1, 900), censored=False)
    encoded, telling = steps_ms(teller.telling())
    _, saving = steps_ms(snapshot.saving(teller))
    reading, merging = hear(OnlinePredictor(base), encoded.payload)
    tracemalloc.start()  # it makes all slower
    hear(learner, encoded.payload)
    held_mb = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    print(f"\npayload {len(encoded.payload) / 1e3:.0f} kB, {encoded.left_out} models left out")
    for name, taken in {
        "telling": telling, "saving": saving, "reading": reading, "merging": merging
    }.items():  # fmt: skip
        print(
            f"{name}: {len(taken)} steps, at most {max(taken):.1f} ms, {sum(taken):.0f} ms in all"
        )
    print(f"{held_mb:.0f} MB hold what {MAX_PEERS} replicas told of {len(learner.heads)} models")
    assert len(learner.heads) == MAX_HEADS
    assert held_mb <= MOST_TOLD_MB


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    options = EngineOptions(kind=EngineKind.LATENCY, latency=LatencyModel(step_s=2e-3))
    with EngineProcess(options) as engine:
        static = StaticConfig(
            service="bench",
            namespace="bench",
            model=ModelConfig(name="tiny"),
            engine=EngineConfig(url=engine.url, slots=4),
            listen=ListenConfig(
                host="127.0.0.1", http_port=0, grpc_port=0, ops_port=0, admin_port=0
            ),
        )
        with SidecarProcess(static, tmp_path_factory.mktemp("bench")) as process:
            yield process


def resident_mib(sidecar: SidecarProcess) -> float:
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


async def test_the_whole_sidecar_stays_within_its_memory(sidecar: SidecarProcess) -> None:
    before = resident_mib(sidecar)
    async with grpc_stub(sidecar) as stub:
        for text in texts():
            request = pb.GenerateRequest(text=text)
            await stub.Predict(pb.PredictRequest(request=request))
    # What is shared is made in memory, too.
    await asyncio.to_thread(sidecar.get, "/predictor/snapshot")
    after = resident_mib(sidecar)
    print(f"\nresident: {before:.0f} MiB at the start, {after:.0f} MiB after {PROMPTS} prompts")
    assert after <= MOST_MIB
