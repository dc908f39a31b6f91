"""An activator whose operator restarts, whose services come and go, and that ends itself."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from fakes.live_activator import LiveActivator
from fakes.live_operator import eventually
from fakes.operator_feed import OperatorFeed
from fakes.replica import EVENTS, FakeReplica
from integration.activator.conftest import CHAT, KEY, Bench, bench, until
from llmservice_sidecar.activator.app import Activator, ActivatorSettings

ANSWER = b"".join(EVENTS)


async def test_it_is_ready_once_it_has_heard_of_every_service() -> None:
    operator = OperatorFeed(complete=False)
    operator.tell()
    async with operator.serving():
        settings = ActivatorSettings(operator_url=operator.url, host="127.0.0.1", ops_port=0)
        activator = Activator(settings)
        async with activator.running() as ops_port, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{ops_port}/readyz"
            async with session.get(url) as response:
                assert response.status == 503
                assert "operator" in await response.text()
            operator.complete()
            await until(lambda: activator.report().synced)
            async with session.get(url) as response:
                assert response.status == 200


async def test_without_the_operator_all_goes_on_as_it_was_known(asleep: Bench) -> None:
    held = asyncio.create_task(asleep.session.post(asleep.http + CHAT))
    await until(lambda: asleep.held() == 1)
    address = asleep.http
    await asleep.operator.stop()
    late = asyncio.create_task(asleep.session.post(address + CHAT))
    await until(lambda: asleep.held() == 2)
    replica = FakeReplica()
    async with replica.running() as ready:
        await asleep.operator.start()
        asleep.operator.tell("chat", ready)
        for task in (held, late):
            assert await (await task).read() == ANSWER
    assert asleep.http == address


async def test_an_operator_that_restarts_takes_no_service_away_before_it_has_seen_all(
    asleep: Bench,
) -> None:
    asleep.operator.tell("other")
    await until(lambda: "team/other" in asleep.activator.doors.services)
    held = asyncio.create_task(asleep.session.post(asleep.http + CHAT))
    await until(lambda: asleep.held() == 1)
    await asleep.operator.stop()
    asleep.operator.forget_all()
    await asleep.operator.start()
    asleep.operator.tell("fresh")
    await until(lambda: "team/fresh" in asleep.activator.doors.services)
    assert {KEY, "team/other"} <= set(asleep.activator.doors.services)
    assert asleep.held() == 1
    asleep.operator.tell("chat")  # `other` was deleted while there was no operator
    asleep.operator.complete()
    await until(lambda: "team/other" not in asleep.activator.doors.services)
    assert asleep.held() == 1
    held.cancel()


async def test_a_service_that_is_gone_refuses_what_waits_for_it(asleep: Bench) -> None:
    asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT))
    await until(lambda: asleep.held() == 1)
    address = asleep.http
    asleep.operator.remove()
    async with await asking as response:
        assert response.status == 503
        assert int(response.headers["retry-after"]) >= 1
    with pytest.raises(aiohttp.ClientConnectorError):
        await asleep.session.post(address + CHAT)
    async with asleep.session.get(asleep.ops + "/metrics") as page:
        assert 'service="chat"' not in await page.text()


async def test_a_line_that_cannot_be_read_is_asked_for_again() -> None:
    answers = [b"no json\n", b'{"update":"synced"}\n']

    async def activations(_: web.Request) -> web.Response:
        return web.Response(body=answers.pop(0) if answers else b"")

    app = web.Application()
    app.router.add_get("/activations", activations)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    activator = Activator(ActivatorSettings(operator_url=url, host="127.0.0.1", ops_port=0))
    async with activator.running():
        await until(lambda: activator.report().synced)
    await runner.cleanup()


async def test_ports_follow_what_the_operator_says(asleep: Bench) -> None:
    before = asleep.http
    with socket.create_server(("127.0.0.1", 0)) as taken:
        asleep.operator.tell("chat", grpc_port=taken.getsockname()[1])
        await until(lambda: asleep.activator.doors.ports(KEY)[1] is None)
    asleep.operator.tell("chat")
    await until(lambda: None not in asleep.activator.doors.ports(KEY))
    async with asleep.session.get(asleep.http + "/health") as response:
        assert response.status == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await asleep.session.get(before + "/health")


async def test_what_is_held_while_it_drains_still_finds_its_replica(asleep: Bench) -> None:
    asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT))
    await until(lambda: asleep.held() == 1)
    leaving = asyncio.create_task(asleep.activator.leave())
    await until(lambda: asleep.activator.report().draining)
    async with asleep.session.get(asleep.ops + "/readyz") as response:
        assert response.status == 503
    # Endpoints take their time: what still comes is held, too.
    late = asyncio.create_task(asleep.session.post(asleep.http + CHAT))
    await until(lambda: asleep.held() == 2)
    assert not leaving.done()
    replica = FakeReplica()
    async with replica.running() as ready:
        asleep.operator.tell("chat", ready)
        for task in (asking, late):
            assert await (await task).read() == ANSWER
        await asyncio.wait_for(leaving, 5)


async def test_what_is_still_held_after_the_drain_is_told_to_come_back() -> None:
    async with bench(drain_timeout_s=0.2) as asleep:
        asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT))
        await until(lambda: asleep.held() == 1)
        await asleep.activator.leave()
        async with await asking as response:
            assert response.status == 503
            assert response.headers["Connection"] == "close"
            assert int(response.headers["retry-after"]) >= 1
            assert (await response.json())["error"]["code"] == "draining"
        async with asleep.session.post(asleep.http + CHAT) as response:
            assert response.status == 503


async def test_the_program_serves_until_sigterm_and_leaves_when_nothing_is_held(
    tmp_path: Path,
) -> None:
    operator = OperatorFeed()
    async with operator.serving():
        log = tmp_path / "activator.log"
        with LiveActivator(
            operator.url, log, "--ops-port=0", "--drain-timeout-seconds=60", host="127.0.0.1"
        ) as running:
            url = f"http://127.0.0.1:{running.ops_port}/status"

            def status() -> dict[str, object]:
                with urllib.request.urlopen(url, timeout=5) as page:
                    return json.load(page)

            await asyncio.to_thread(eventually, lambda: status()["synced"])
            running.terminate()
            assert await asyncio.to_thread(running.ended) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[-1]["message"] == "closing"
