"""The operator's port over real HTTP on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from fakes.manifests import NOW, pod, service
from fakes.reports import report
from llmservice_operator.backlog import Backlogs
from llmservice_operator.cluster import ServiceKey
from llmservice_operator.http_server import MOST_AT_ONCE, MOST_STREAMS, backlog_routes, serving
from llmservice_operator.observed import Observed, Polled


async def nobody(_: ServiceKey) -> None:
    """No sidecar is asked."""


def backlogs(answers: dict[str, Polled]) -> Backlogs:
    return Backlogs(ask=nobody, answers=lambda _: answers, now=lambda: NOW, clock=lambda: 0.0)


@asynccontextmanager
async def asking(known: Backlogs) -> AsyncGenerator[aiohttp.ClientSession]:
    async with (
        serving(backlog_routes(known), port=0, host="127.0.0.1") as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield session


async def test_a_backlog_is_one_number_per_name() -> None:
    known = backlogs({"uid-svc-1": Polled(report=report(backlog_s=45.5, queued=9))})
    await known.keep(service(), Observed(pods=(pod(ready=True),)))
    async with asking(known) as session:
        answer = await session.get("/backlog?namespace=ns&name=svc")
        assert answer.status == 200
        assert await answer.json() == {
            "namespace": "ns",
            "name": "svc",
            "backlog_seconds": 45.5,
            "total_backlog_seconds": 45.5,
            "replicas": 1,
            "starting_replicas": 0,
            "silent_replicas": 0,
            "queued_requests": 9,
            "held_requests": 0,
        }


@pytest.mark.parametrize("query", ["", "?namespace=ns", "?name=svc"])
async def test_an_incomplete_question_says_what_is_missing(query: str) -> None:
    async with asking(backlogs({})) as session:
        answer = await session.get(f"/backlog{query}")
        assert answer.status == 400
        assert "namespace and name" in (await answer.json())["error"]


async def test_an_unknown_service_is_named() -> None:
    async with asking(backlogs({})) as session:
        answer = await session.get("/backlog?namespace=ns&name=nosuch")
        assert answer.status == 404
        assert "ns/nosuch" in (await answer.json())["error"]


async def test_what_is_not_known_is_an_error_and_not_zero() -> None:
    known = backlogs({})
    await known.keep(service(), Observed(pods=(pod(ready=True),)))
    async with asking(known) as session:
        answer = await session.get("/backlog?namespace=ns&name=svc")
        assert answer.status == 503
        assert answer.headers["Retry-After"]


async def test_streams_without_an_end_take_no_room_from_answers() -> None:
    leave = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await leave.wait()
        return response

    async def at_once(_: web.Request) -> web.Response:
        return web.Response()

    routes = [web.get("/stream", endless), web.get("/metrics", at_once)]
    unlimited = aiohttp.TCPConnector(limit=0)
    async with (
        serving(routes, port=0, host="127.0.0.1", streams={"/stream"}) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=unlimited) as session,
    ):
        begun = await asyncio.gather(*(session.get("/stream") for _ in range(MOST_STREAMS)))
        assert {answer.status for answer in begun} == {200}
        assert (await session.get("/stream")).status == 503
        assert (await session.get("/metrics")).status == 200
        leave.set()
        assert [await answer.read() for answer in begun] == [b""] * MOST_STREAMS


async def test_more_than_can_be_answered_is_told_to_come_back() -> None:
    arrived, leave = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        arrived.release()
        await leave.wait()
        return web.Response()

    unlimited = aiohttp.TCPConnector(limit=0)
    async with (
        serving([web.get("/slow", slow)], port=0, host="127.0.0.1") as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=unlimited) as session,
    ):
        held = [asyncio.create_task(session.get("/slow")) for _ in range(MOST_AT_ONCE)]
        for _ in held:
            await arrived.acquire()
        assert (await session.get("/slow")).status == 503
        leave.set()
        assert {(await answer).status for answer in held} == {200}


async def test_a_taken_port_is_named() -> None:
    async with serving([], port=0, host="127.0.0.1") as port:
        with pytest.raises(OSError, match=str(port)):
            async with serving([], port=port, host="127.0.0.1"):
                pass
