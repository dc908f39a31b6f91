"""Asking sidecars, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import msgspec
import pytest
from fakes.manifests import SETTINGS, pod
from fakes.reports import report
from llmservice_api.status_report import SecurityReport
from llmservice_operator.cluster import ServiceKey
from llmservice_operator.kube_json import Manifest
from llmservice_operator.polling import Poller

pytestmark = pytest.mark.looptime

KEY = ServiceKey("ns", "svc")


def body(state: str = "Ready", *, calibrated: bool | None = True, tau: float = 0.5) -> bytes:
    return msgspec.json.encode(report(state, calibrated=calibrated, tau=tau))


class Sidecars:
    """Answers by address; counts who asks at once."""

    def __init__(self, answer: bytes | Exception = b"") -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.takes_s = 0.0

    async def __call__(self, address: str) -> bytes:
        self.asked.append(address)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def polling(
    sidecars: Sidecars, *, concurrency: int = 32
) -> AsyncGenerator[tuple[Poller, list[ServiceKey]]]:
    changed: list[ServiceKey] = []
    settings = replace(SETTINGS, poll_concurrency=concurrency)
    poller = Poller(sidecars, changed=changed.append, settings=settings)
    task = asyncio.create_task(poller.run())
    try:
        yield poller, changed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_download_is_asked_of_and_again_when_its_pod_serves() -> None:
    sidecars = Sidecars(body())
    starting, loading, serving = pod("svc-1"), pod("svc-1"), ready("svc-1")
    for seen, state in ((starting, "waiting"), (loading, "running"), (serving, "terminated")):
        seen["status"]["initContainerStatuses"] = [{"name": "fetch", "state": {state: {}}}]
    async with polling(sidecars) as (poller, _):
        await asyncio.sleep(3)
        poller.watch(KEY, [starting])
        await asyncio.sleep(0.1)
        assert sidecars.asked == []
        poller.watch(KEY, [loading])
        await asyncio.sleep(0.1)
        assert len(sidecars.asked) == 1
        poller.watch(KEY, [loading])
        await asyncio.sleep(0.1)
        assert len(sidecars.asked) == 1
        assert poller.watch(KEY, [serving])
        await asyncio.sleep(0.1)
        assert len(sidecars.asked) == 2


def ready(name: str = "svc-1") -> Manifest:
    return pod(name, ready=True)


async def test_a_pod_that_became_ready_is_asked_at_once() -> None:
    sidecars = Sidecars(body())
    async with polling(sidecars) as (poller, changed):
        await asyncio.sleep(3)
        assert poller.watch(KEY, [ready()]) == {}
        await asyncio.sleep(0.1)
        assert changed == [KEY]
        answer = poller.watch(KEY, [ready()])["uid-svc-1"]
    assert answer.report is not None


async def test_a_pod_that_is_not_ready_is_not_asked() -> None:
    sidecars = Sidecars(body())
    async with polling(sidecars) as (poller, _):
        poller.watch(KEY, [pod()])
        await asyncio.sleep(100)
    assert sidecars.asked == []


async def test_pods_are_asked_every_thirty_seconds_and_news_are_told() -> None:
    sidecars = Sidecars(body())
    async with polling(sidecars) as (poller, changed):
        poller.watch(KEY, [ready()])
        await asyncio.sleep(65)
        assert len(sidecars.asked) == 3
        assert changed == [KEY]
        sidecars.answer = body(tau=0.505)
        await asyncio.sleep(30)
        assert changed == [KEY], "a figure that moved by 1 % is no news"
        sidecars.answer = body(tau=0.505, calibrated=False)
        await asyncio.sleep(30)
    assert changed == [KEY, KEY]


async def test_a_secret_that_is_not_in_use_is_news_but_refused_requests_are_none() -> None:
    sidecars = Sidecars(body())
    async with polling(sidecars) as (poller, changed):
        poller.watch(KEY, [ready()])
        await asyncio.sleep(1)
        for security, looks in (
            (SecurityReport(api_keys=2, unauthenticated=7), 1),
            (SecurityReport(api_keys=2, api_keys_error="entry a is empty"), 2),
        ):
            told = msgspec.structs.replace(report(), security=security)
            sidecars.answer = msgspec.json.encode(told)
            await asyncio.sleep(30)
            assert len(changed) == looks


async def test_at_most_so_many_are_asked_at_once() -> None:
    sidecars = Sidecars(body())
    sidecars.takes_s = 0.1
    async with polling(sidecars, concurrency=4) as (poller, _):
        poller.watch(KEY, [ready(f"svc-{index}") for index in range(20)])
        await asyncio.sleep(5)
    assert sidecars.most_at_once == 4
    assert len(sidecars.asked) == 20


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (aiohttp.ClientConnectionError("refused"), "refused"),
        (OSError(), "OSError"),
        (b"not json", "cannot be read"),
        (body().replace(b'"version":1', b'"version":99'), "version 99"),
    ],
)
async def test_what_went_wrong_is_kept(answer: bytes | Exception, said: str) -> None:
    async with polling(Sidecars(answer)) as (poller, changed):
        poller.watch(KEY, [ready()])
        await asyncio.sleep(1)
        assert said in poller.watch(KEY, [ready()])["uid-svc-1"].error
    assert changed == [KEY]


async def test_a_report_outlives_one_lost_question_but_not_two() -> None:
    sidecars = Sidecars(body())
    lost = aiohttp.ClientConnectionError("refused")
    async with polling(sidecars) as (poller, changed):
        poller.watch(KEY, [ready()])
        await asyncio.sleep(1)
        for answer, reports, looks in (
            (lost, True, 1),
            (body(), True, 1),
            (lost, True, 1),
            (lost, False, 2),
            (lost, False, 2),
            (body(), True, 3),
            (lost, True, 3),
        ):
            sidecars.answer = answer
            await asyncio.sleep(30)
            known = poller.answers(KEY)["uid-svc-1"]
            assert (known.report is not None, len(changed)) == (reports, looks)


async def test_a_sidecar_that_does_not_answer_is_given_up() -> None:
    sidecars = Sidecars(body())
    sidecars.takes_s = 1000
    async with polling(sidecars) as (poller, _):
        poller.watch(KEY, [ready()])
        await asyncio.sleep(6)
        assert poller.watch(KEY, [ready()])["uid-svc-1"].error == "no answer in 5 s"


async def test_who_left_is_forgotten() -> None:
    sidecars = Sidecars(body())
    async with polling(sidecars) as (poller, _):
        poller.watch(KEY, [ready("svc-1"), ready("svc-2")])
        await asyncio.sleep(1)
        assert poller.watch(KEY, [ready("svc-2")]).keys() == {"uid-svc-2"}
        poller.forget(KEY)
        sidecars.asked.clear()
        await asyncio.sleep(100)
    assert sidecars.asked == []


async def test_an_answer_that_comes_after_its_pod_left_is_dropped() -> None:
    sidecars = Sidecars(body())
    sidecars.takes_s = 2
    async with polling(sidecars) as (poller, changed):
        poller.watch(KEY, [ready()])
        await asyncio.sleep(1)
        poller.forget(KEY)
        await asyncio.sleep(5)
    assert changed == []
