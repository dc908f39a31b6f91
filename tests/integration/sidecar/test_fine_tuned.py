"""A sidecar whose predictor `llmservice train` has written: from the directory to the order."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import pytest
from fakes.otlp_receiver import OtlpReceiver
from integration.predictors.trained import LONG, SHORT, Run
from integration.sidecar.clients import ClientTrace, chat_body, grpc_stub, post_chat
from integration.sidecar.conftest import SLOTS, static_config
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import PredictorConfig
from llmservice_api.status_report import PredictorReport
from llmservice_lab.engine.process import EngineProcess
from llmservice_lab.predictors.recorded import write_recorded
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

pytestmark = pytest.mark.timeout(600)  # whoever comes first waits for the trainings

DOOR: Final = "POST /v1/chat/completions"
PATIENT_S: Final = 10.0  # a busy machine must not decide who predicts
Start = Callable[..., SidecarProcess]


@pytest.fixture(scope="module")
def proxy(runs: Mapping[str, Run]) -> Path:
    """A directory as it was trained and exported."""
    return runs["regression-l1"].out


@pytest.fixture
def start(engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path: Path) -> Iterator[Start]:
    """Starts sidecars with a fine-tuned predictor, each ended with the test."""
    begun: list[SidecarProcess] = []

    def start(directory: Path, *, timeout_s: float = PATIENT_S) -> SidecarProcess:
        predictor = PredictorConfig(kind="FineTuned", uri=directory.as_uri(), timeout_s=timeout_s)
        config = msgspec.structs.replace(static_config(engine_latency, otlp), predictor=predictor)
        process = SidecarProcess(config, tmp_path / f"sidecar-{len(begun)}")
        process.__enter__()
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.__exit__(None, None, None)


async def predicted(sidecar: SidecarProcess, text: str) -> pb.PredictResponse:
    async with grpc_stub(sidecar) as stub:
        asked = pb.GenerateRequest(chat=pb.ChatPrompt(messages=[{"role": "user", "content": text}]))
        return await stub.Predict(pb.PredictRequest(request=asked))


async def chats(
    sidecar: SidecarProcess, count: int, *, out_len: int = 4, text: str = LONG
) -> list[int]:
    """The status codes of so many chats at once."""
    bodies = [
        chat_body(out_len, messages=[{"role": "user", "content": f"{text} {at}"}])
        for at in range(count)
    ]
    answers = await asyncio.gather(*(post_chat(sidecar, body) for body in bodies))
    return [status for status, _, _ in answers]


def report(sidecar: SidecarProcess) -> PredictorReport:
    return sidecar.status().predictor


def metric(sidecar: SidecarProcess, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    page = sidecar.get("/metrics").decode()
    found = re.findall(rf"^{name}(?:{{(.*)}})? ([0-9.e+-]+)$", page, re.MULTILINE)
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return math.fsum(float(v) for given, v in found if all(one in given for one in wanted))


async def test_requests_are_predicted_by_what_was_trained(
    start: Start, proxy: Path, otlp: OtlpReceiver
) -> None:
    sidecar = start(proxy)
    assert (report(sidecar).kind, report(sidecar).state) == ("FineTuned", "Ready")
    long, short = await predicted(sidecar, f"{LONG} whales"), await predicted(sidecar, SHORT)
    assert (long.source, short.source) == ("proxy", "proxy")
    assert long.output_tokens > 4 * short.output_tokens
    assert 1 <= long.p50_tokens <= long.p90_tokens
    trace = ClientTrace()
    body = chat_body(5, messages=[{"role": "user", "content": f"{LONG} whales"}])
    status, _, _ = await post_chat(sidecar, body, trace.headers)
    assert status == 200
    said = otlp.wait_for_trace(trace.id, (DOOR, names.SPAN_PREDICT))[DOOR].attributes
    assert said[names.ATTR_PREDICTION_SOURCE] == "proxy"
    assert said[names.ATTR_PREDICTED] == pytest.approx(long.output_tokens, rel=0.01)


async def test_a_burst_is_predicted_by_the_proxy_to_the_last(start: Start, proxy: Path) -> None:
    sidecar = start(proxy)
    count = 8 * SLOTS
    assert await chats(sidecar, count) == [200] * count
    assert metric(sidecar, f"{names.METRIC_PREDICTIONS}_total", source="proxy") == count
    assert (report(sidecar).failures, report(sidecar).timeouts) == (0, 0)


async def test_it_learns_how_long_winded_the_served_model_is(start: Start, proxy: Path) -> None:
    sidecar = start(proxy)
    before = (await predicted(sidecar, LONG)).output_tokens
    assert before > 50, "essays were long in training"
    await chats(sidecar, 60, out_len=3)
    async with asyncio.timeout(20):
        while report(sidecar).learned < 60:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    after = (await predicted(sidecar, LONG)).output_tokens
    assert after < 0.3 * before
    assert after > 2 * (await predicted(sidecar, SHORT)).output_tokens, "the order stays"


def damaged(proxy: Path, to: Path, *, file: str) -> Path:
    shutil.copytree(proxy, to)
    whole = (to / file).read_bytes()
    (to / file).write_bytes(whole[: len(whole) // 2])
    return to


BROKEN: Final[Mapping[str, tuple[Callable[[Path, Path], Path], str]]] = {
    "no directory": (lambda _, to: to, "No such file"),
    "half a network": (lambda was, to: damaged(was, to, file="model.onnx"), "no model that"),
    "half a tokenizer": (lambda was, to: damaged(was, to, file="tokenizer.json"), "no tokenizer"),
    "half a card": (lambda was, to: damaged(was, to, file="card.json"), "card.json"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_cannot_be_loaded_is_told_and_the_shipped_model_serves(
    name: str, start: Start, proxy: Path, tmp_path: Path
) -> None:
    make, why = BROKEN[name]
    sidecar = start(make(proxy, tmp_path / "broken"))
    assert report(sidecar).state == "Failed"
    assert why in report(sidecar).message
    assert "the shipped model serves instead" in report(sidecar).message
    assert (await predicted(sidecar, LONG)).source == "model"
    assert await chats(sidecar, 2 * SLOTS) == [200] * 2 * SLOTS


async def test_a_network_that_says_nan_fails_no_request(start: Start, tmp_path: Path) -> None:
    texts = [f"{LONG} {at}" for at in range(12)]
    sidecar = start(write_recorded(tmp_path / "nan", dict.fromkeys(texts, math.nan)))
    assert report(sidecar).state == "Ready", "nothing of it shows before it is asked"
    assert await chats(sidecar, 12) == [200] * 12
    assert (await predicted(sidecar, texts[0])).source in {"history", "prior"}
    assert report(sidecar).state == "Failed"
    assert "most predictions fail" in report(sidecar).message
    assert metric(sidecar, f"{names.METRIC_FAILURES}_total") >= 12
    assert texts[0] not in sidecar.log(), "no prompt in the log"


async def test_one_that_is_late_delays_nobody(start: Start, proxy: Path) -> None:
    sidecar = start(proxy, timeout_s=1e-6)
    assert await chats(sidecar, 2 * SLOTS) == [200] * 2 * SLOTS
    for _ in range(2 * SLOTS):  # one by one: a busy loop would see answer and deadline together
        assert await chats(sidecar, 1) == [200]
    assert report(sidecar).timeouts >= 1
    assert metric(sidecar, f"{names.METRIC_TIMEOUTS}_total") == report(sidecar).timeouts
    assert (report(sidecar).state, report(sidecar).failures) == ("Ready", 0)
