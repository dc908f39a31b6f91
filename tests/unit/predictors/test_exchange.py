"""Replicas learn from each other over real sockets, and believe nothing that is not a lesson."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from llmservice_api import names
from llmservice_api.sidecar_config import KeepConfig, PredictorConfig
from llmservice_sidecar.adapters.predictor_exchange import PredictorExchange, fetch
from llmservice_sidecar.adapters.predictors import ChainedPredictor, make_predictor
from llmservice_sidecar.adapters.predictors.chain import Origin
from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.sharing import MAX_BYTES
from llmservice_sidecar.runtime.ports import PredictionQuery

QUERY = PredictionQuery(text="Why?", prompt_tokens=1, endpoint="chat", model="tiny")
HOST = "svc-headless.ns.svc"
Answer = Callable[[], Awaitable[web.StreamResponse]]


def predictor() -> ChainedPredictor:
    return make_predictor(PredictorConfig(timeout_s=10.0), enabled=True)


async def teach(learner: ChainedPredictor, *, tokens: int, outcomes: int = 60) -> None:
    for _ in range(outcomes):
        learner.observe(QUERY, output_tokens=tokens, censored=False)
    await learner.settled()


async def addresses(host: str) -> list[str]:
    assert host == HOST
    return ["127.0.0.1", "127.0.0.2"]


@asynccontextmanager
async def replica(answer: Answer) -> AsyncGenerator[int]:
    """Another replica's ops port, on 127.0.0.1."""
    app = web.Application()

    async def handle(_: web.Request) -> web.StreamResponse:
        return await answer()

    app.router.add_get(names.PATH_STATISTICS, handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def of_bytes(payload: bytes) -> Answer:
    async def answer() -> web.StreamResponse:
        return web.Response(body=payload)

    return answer


@dataclass
class Asked:
    """A predictor after it has asked its replicas."""

    said_tokens: float
    failures: int


async def ask(port: int, *, own_address: str = "127.0.0.2") -> Asked:
    learner = predictor()
    exchange = PredictorExchange(
        learner,
        KeepConfig(peers_host=HOST, peers_port=port),
        own_address=own_address,
        resolve=addresses,
    )
    async with aiohttp.ClientSession() as session:
        await exchange.ask_peers(session)
    said = await learner.predict(QUERY)
    await learner.aclose()
    return Asked(said.output_tokens, learner.failures)


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


async def untaught_tokens() -> float:
    learner = predictor()
    said = await learner.predict(QUERY)
    await learner.aclose()
    return said.output_tokens


async def test_what_one_replica_has_learned_the_other_knows() -> None:
    teacher = predictor()
    await teach(teacher, tokens=3)
    payload = await PredictorExchange(teacher, None).statistics()
    assert payload is not None
    assert b"Why" not in payload
    assert b"tiny" not in payload
    async with replica(of_bytes(payload)) as port:
        assert (await ask(port)).said_tokens < 0.5 * await untaught_tokens()
    await teacher.aclose()


@pytest.mark.parametrize(
    "payload", [b"", b"not a lesson", b"\x00" * 1000, b"x" * (MAX_BYTES + 1)],
    ids=["nothing", "text", "zeros", "too much"],
)  # fmt: skip
async def test_what_is_no_lesson_changes_nothing(payload: bytes) -> None:
    async with replica(of_bytes(payload)) as port:
        asked = await ask(port)
    assert asked == Asked(await untaught_tokens(), 0)


async def test_a_redirect_is_not_followed() -> None:
    async def away() -> web.StreamResponse:
        raise web.HTTPFound("http://127.0.0.1:1/elsewhere")

    async with replica(away) as port, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientPayloadError, match="302"):
            await fetch(session, "127.0.0.1", port=port)


async def test_the_own_address_is_not_asked() -> None:
    asked: list[str] = []

    async def note() -> web.StreamResponse:
        asked.append("127.0.0.1")
        return web.Response(status=404)

    async with replica(note) as port:
        await ask(port, own_address="127.0.0.1")
        assert asked == []
        await ask(port, own_address="127.0.0.2")
        assert asked == ["127.0.0.1"]


async def test_a_name_that_is_not_known_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def unknown(host: str) -> list[str]:
        raise OSError(f"{host} is not known")

    learner = predictor()
    exchange = PredictorExchange(learner, KeepConfig(peers_host=HOST), resolve=unknown)
    with caplog.at_level(logging.WARNING):
        async with aiohttp.ClientSession() as session:
            await exchange.ask_peers(session)
            await exchange.ask_peers(session)
    assert len(caplog.records) == 1
    await learner.aclose()


async def test_the_state_is_written_for_the_next_start(tmp_path: Path) -> None:
    learner = predictor()
    await teach(learner, tokens=3)
    path = tmp_path / "volume" / "state"
    exchange = PredictorExchange(learner, KeepConfig(state_path=str(path)))
    await exchange.keep()
    assert snapshot.load(path.read_bytes()).samples == 60
    assert snapshot.load(await exchange.snapshot() or b"").samples == 60
    await learner.aclose()


async def test_a_volume_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    learner = predictor()
    exchange = PredictorExchange(learner, KeepConfig(state_path=str(tmp_path / "file" / "state")))
    await exchange.keep()
    await exchange.keep()
    assert len(caplog.records) == 1
    await learner.aclose()


async def test_a_model_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner, stuck = predictor(), threading.Event()
    keep = KeepConfig(state_path=str(tmp_path / "state"))
    exchange = PredictorExchange(learner, keep, keep_within_s=0.01)
    hanging = asyncio.create_task(learner.run_in_thread(stuck.wait))
    await asyncio.sleep(0)  # it is in the thread now
    await exchange.keep()
    assert "TimeoutError" in caplog.text
    stuck.set()
    await hanging
    await learner.aclose()


async def test_whatever_goes_wrong_in_saving_is_told_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner = predictor()
    exchange = PredictorExchange(learner, KeepConfig(state_path=str(tmp_path / "state")))
    await learner.aclose()  # its thread takes no more work: a RuntimeError
    await exchange.keep()
    assert "cannot be written" in caplog.text


async def test_who_does_not_learn_neither_keeps_nor_tells_nor_asks(tmp_path: Path) -> None:
    config = PredictorConfig(timeout_s=10.0, online_learning=False)
    fixed = make_predictor(config, enabled=True)
    keep = KeepConfig(state_path=str(tmp_path / "state"), peers_host=HOST)
    exchange = PredictorExchange(fixed, keep, resolve=addresses)
    assert (await exchange.statistics(), await exchange.snapshot()) == (None, None)
    await exchange.keep()
    await exchange.follow()  # returns at once
    assert is_empty(tmp_path)
    await fixed.aclose()


async def test_who_asks_often_gets_the_same_answer_for_a_while() -> None:
    learner = predictor()
    await teach(learner, tokens=3, outcomes=5)
    exchange = PredictorExchange(learner, None)
    first = await exchange.statistics()
    await teach(learner, tokens=900, outcomes=5)
    assert await exchange.statistics() is first
    await learner.aclose()


async def test_a_predictor_that_learns_nothing_shares_and_keeps_nothing(tmp_path: Path) -> None:
    nothing = ChainedPredictor(
        None, origin=Origin("Default", "Disabled"), timeout_s=1.0, learns=False
    )
    exchange = PredictorExchange(nothing, KeepConfig(state_path=str(tmp_path / "state")))
    assert (await exchange.statistics(), await exchange.snapshot()) == (None, None)
    await exchange.keep()
    await exchange.follow()  # returns at once
    assert is_empty(tmp_path)
    await nothing.aclose()


def test_the_shipped_predictor_is_an_online_one() -> None:
    assert isinstance(predictor().model, OnlinePredictor)
