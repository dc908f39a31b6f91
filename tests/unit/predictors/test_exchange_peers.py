"""Replicas that come, go, repeat themselves or talk nonsense, and what a replica does about it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from llmservice_api.sidecar_config import KeepConfig, PredictorConfig
from llmservice_sidecar.adapters import predictor_exchange
from llmservice_sidecar.adapters.predictor_exchange import PredictorExchange
from llmservice_sidecar.adapters.predictors import ChainedPredictor, make_predictor
from llmservice_sidecar.adapters.predictors.learned import sharing
from llmservice_sidecar.adapters.predictors.learned.acquaintances import (
    FORGET_AFTER_S,
    LONGEST_TEXT,
)
from llmservice_sidecar.adapters.predictors.learned.head import Head
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor, head_key
from llmservice_sidecar.runtime.ports import PredictionQuery

MODELS = ("a", "b", "c")
HERE, THERE = "10.0.0.1", "10.0.0.2"


def query(model: str) -> PredictionQuery:
    return PredictionQuery(text="Why?", prompt_tokens=1, endpoint="chat", model=model)


def taught(outcomes: int = 5) -> OnlinePredictor:
    model = OnlinePredictor()
    for name in MODELS:
        for _ in range(outcomes):
            model.observe(query(name), output_tokens=3, censored=False)
    return model


class Replicas:
    """A learner and what stands for the network: what each address tells, the time, the names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: Path | None = None) -> None:
        self.told: dict[str, bytes] = {}
        self.now = 0.0
        self.chain: ChainedPredictor = make_predictor(PredictorConfig(timeout_s=10.0), enabled=True)
        assert isinstance(self.chain.model, OnlinePredictor)
        self.model: OnlinePredictor = self.chain.model
        self.exchange = PredictorExchange(
            self.chain,
            KeepConfig(
                peers_host="svc", every_s=0.001, state_path=None if state is None else str(state)
            ),
            resolve=self.resolve,
            clock=lambda: self.now,
        )

        async def fetch(_: aiohttp.ClientSession, address: str, *, port: int) -> bytes:
            return self.told[address]

        monkeypatch.setattr(predictor_exchange, "fetch", fetch)

    async def resolve(self, _: str) -> list[str]:
        return list(self.told)

    async def ask(self) -> None:
        async with aiohttp.ClientSession() as session:
            await self.exchange.ask_peers(session)

    def head(self, model: str = "a") -> Head:
        return self.model.heads[head_key(model)]


@pytest.fixture
def replicas(monkeypatch: pytest.MonkeyPatch) -> Replicas:
    return Replicas(monkeypatch)


async def test_whoever_has_left_is_forgotten_after_some_minutes(replicas: Replicas) -> None:
    leaves, stays = taught(), taught(7)
    replicas.told = {HERE: leaves.own_statistics(), THERE: stays.own_statistics()}
    await replicas.ask()
    assert len(replicas.head().told) == 2
    del replicas.told[HERE]
    replicas.now += FORGET_AFTER_S / 2
    await replicas.ask()
    assert leaves.replica in replicas.head().told
    replicas.now += FORGET_AFTER_S
    await replicas.ask()
    assert leaves.replica not in replicas.head().told
    assert stays.replica in replicas.head().told


async def test_nobody_is_forgotten_because_names_fail(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas.told = {HERE: taught().own_statistics()}
    await replicas.ask()

    async def fails(_: str) -> list[str]:
        raise OSError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(replicas.exchange, "_resolve", fails)
        replicas.now += 2 * FORGET_AFTER_S
        await replicas.ask()
    await replicas.ask()
    assert len(replicas.head().told) == 1


async def test_one_replica_under_two_addresses_or_oneself_is_not_counted_twice(
    replicas: Replicas,
) -> None:
    replicas.model.observe(query("a"), output_tokens=3, censored=False)
    other = taught().own_statistics()
    replicas.told = {HERE: other, THERE: other, "10.0.0.3": replicas.model.own_statistics()}
    await replicas.ask()
    assert replicas.head().told.outcomes == 5


async def test_the_same_words_are_not_read_again_until_they_may_mean_more(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    packed_of = sharing.packed_of

    def noted(prefix: str, tensors: Any) -> Any:
        read.append(prefix)
        return packed_of(prefix, tensors)

    monkeypatch.setattr(sharing, "packed_of", noted)
    replicas.told = {HERE: taught().own_statistics()}
    for _ in range(3):
        await replicas.ask()
    assert len(read) == len(MODELS)
    replicas.told = {HERE: taught(6).own_statistics()}
    await replicas.ask()
    assert len(read) == 2 * len(MODELS)


async def test_what_was_learned_is_taken_over_in_short_steps_between_predictions(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, seen_between = 0, 0
    run_in_thread = replicas.chain.run_in_thread

    async def noted(action: Callable[[], Any]) -> Any:
        nonlocal steps, seen_between
        steps += 1
        done = await run_in_thread(action)
        said = await replicas.chain.predict(query("a"))
        seen_between += said.source == "model"
        return done

    monkeypatch.setattr(replicas.chain, "run_in_thread", noted)
    replicas.told = {HERE: taught().own_statistics(), THERE: taught(6).own_statistics()}
    await replicas.ask()
    each = len(MODELS) * len(replicas.told)
    assert steps >= 2 * each, "each lesson is read in one, and added in another"
    assert seen_between == steps


async def following(replicas: Replicas, until: Callable[[], bool]) -> None:
    task = asyncio.create_task(replicas.exchange.follow())
    try:
        async with asyncio.timeout(20.0):
            while not until():
                assert not task.done(), "it ended"
                await asyncio.sleep(0.005)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("where", ["decoding", "merging"])
async def test_no_error_of_a_replica_ends_the_sharing_or_the_keeping(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replicas = Replicas(monkeypatch, tmp_path / "state")
    replicas.told = {HERE: taught().own_statistics()}
    asked = 0

    def breaks(*_: Any) -> Any:
        nonlocal asked
        asked += 1
        raise ArithmeticError("long " * 10_000)
        yield

    if where == "decoding":
        monkeypatch.setattr(sharing, "decoding", breaks)
    else:
        monkeypatch.setattr(replicas.model, "merging", breaks)
    with caplog.at_level(logging.WARNING):
        await following(replicas, lambda: asked >= 3 and (tmp_path / "state").exists())
    assert len(caplog.records) == 1, "told once, not every minute"
    assert len(caplog.records[0].getMessage()) <= LONGEST_TEXT + 3
    await replicas.chain.aclose()


async def test_one_bad_replica_does_not_keep_the_others_from_being_heard(
    replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    bad = taught().own_statistics()
    replicas.told = {HERE: bad[:-40], THERE: taught(7).own_statistics()}
    await replicas.ask()
    assert replicas.head().told.outcomes == 7
    assert HERE in caplog.text


async def test_models_that_are_left_out_are_told_once(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "MAX_BYTES", 6000)
    monkeypatch.setattr(predictor_exchange, "FRESH_S", -1.0)
    for name in MODELS:
        replicas.model.observe(query(name), output_tokens=3, censored=False)
    for _ in range(2):
        await replicas.exchange.statistics()
    assert [record.getMessage() for record in caplog.records] == [
        "3 models do not fit into the predictor's statistics: those with least learned"
    ]
