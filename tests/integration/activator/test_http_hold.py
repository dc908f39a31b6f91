"""Requests over HTTP that come while their service sleeps."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import aiohttp
import pytest
from fakes.replica import EVENTS, FakeReplica
from integration.activator.conftest import CHAT, Bench, bench, until
from llmservice_sidecar.activator.hold import HoldLimits

ANSWER = b"".join(EVENTS)


async def error_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The error in OpenAI's shape."""
    found: dict[str, Any] = (await response.json())["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


async def test_a_thousand_held_requests_are_all_answered_in_the_order_of_their_arrival(
    asleep: Bench,
) -> None:
    async def ask(number: int) -> bytes:
        async with asleep.session.post(asleep.http + CHAT, data=str(number)) as response:
            assert response.status == 200
            assert int(response.headers["x-llmservice-held-ms"]) >= 0
            return await response.read()

    asking: list[asyncio.Task[bytes]] = []
    for number in range(1000):
        asking.append(asyncio.create_task(ask(number)))
        if number % 50 == 49:  # which of these comes first is the network's to say
            await until(lambda: asleep.held() == len(asking))
    replica = FakeReplica()
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        assert await asyncio.gather(*asking) == [ANSWER] * 1000
    came = [sorted(map(int, replica.bodies[at : at + 50])) for at in range(0, 1000, 50)]
    assert [number for crowd in came for number in crowd] == list(range(1000))
    report = asleep.activator.report()
    assert (report.held, report.held_bytes) == ({}, 0)


async def test_one_request_more_than_may_wait_is_told_when_to_come_back() -> None:
    async with bench(HoldLimits(max_held=2)) as asleep:
        held = [asyncio.create_task(asleep.session.post(asleep.http + CHAT)) for _ in range(2)]
        await until(lambda: asleep.held() == 2)
        async with asleep.session.post(asleep.http + CHAT) as response:
            assert response.status == 429
            assert int(response.headers["retry-after"]) >= 1
            assert int(response.headers["retry-after-ms"]) >= 1000
            found = await error_of(response)
        assert (found["type"], found["code"]) == ("rate_limit_error", "queue_full")
        replica = FakeReplica()
        async with replica.running() as address:
            asleep.operator.tell("chat", address)
            assert [(await task).status for task in held] == [200, 200]


async def test_bodies_together_are_held_to_the_memory_there_is() -> None:
    async with bench(HoldLimits(max_bytes=100_000, overhead_bytes=1_000)) as asleep:
        first = asyncio.create_task(asleep.session.post(asleep.http + CHAT, data=bytes(90_000)))
        await until(lambda: asleep.held() == 1)
        async with asleep.session.post(asleep.http + CHAT, data=bytes(9_000)) as response:
            assert response.status == 429
            assert "memory" in (await error_of(response))["message"]
        assert asleep.activator.report().held_bytes == 91_000
        first.cancel()
        await until(lambda: asleep.activator.report().held_bytes == 0)


@pytest.mark.parametrize("chunked", [False, True], ids=["length is told", "chunked"])
async def test_a_body_that_the_replica_would_refuse_is_refused(
    asleep: Bench, chunked: bool
) -> None:
    async def chunks() -> Any:
        for _ in range(17):
            yield bytes(1024 * 1024)

    data = chunks() if chunked else io.BytesIO(bytes(17 * 1024 * 1024))
    async with asleep.session.post(asleep.http + CHAT, data=data) as response:
        assert response.status == 413
        assert (await error_of(response))["code"] == "request_entity_too_large"
    await until(lambda: asleep.activator.report().held_bytes == 0)


async def test_a_request_waits_no_longer_than_is_allowed() -> None:
    async with (
        bench(HoldLimits(hold_s=0.1)) as asleep,
        asleep.session.post(asleep.http + CHAT) as response,
    ):
        assert response.status == 504
        found = await error_of(response)
    assert (found["type"], found["code"]) == ("timeout_error", "deadline_exceeded")


async def test_a_clients_own_deadline_ends_its_waiting(asleep: Bench) -> None:
    headers = {"x-request-timeout-ms": "100"}
    async with asleep.session.post(asleep.http + CHAT, headers=headers) as response:
        assert response.status == 504
        assert (await error_of(response))["code"] == "deadline_exceeded"
    assert asleep.held() == 0


async def test_a_deadline_that_cannot_be_read_is_refused(asleep: Bench) -> None:
    headers = {"x-request-timeout-ms": "soon"}
    async with asleep.session.post(asleep.http + CHAT, headers=headers) as response:
        assert response.status == 400
        assert (await error_of(response))["param"] == "x-request-timeout-ms"


async def test_the_replica_gets_what_is_left_of_the_clients_deadline(asleep: Bench) -> None:
    headers = {"x-request-timeout-ms": "60000"}
    asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT, headers=headers))
    await until(lambda: asleep.held() == 1)
    await asyncio.sleep(0.05)
    replica = FakeReplica()
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        assert (await asking).status == 200
    assert 0 < int(replica.seen[0].headers["x-request-timeout-ms"]) <= 59_950


async def test_a_client_that_leaves_gives_up_its_place_at_once(asleep: Bench) -> None:
    asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT))
    await until(lambda: asleep.held() == 1)
    asking.cancel()
    await until(lambda: asleep.held() == 0)
    replica = FakeReplica()
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        async with asleep.session.post(asleep.http + CHAT) as response:
            assert response.status == 200
    assert len(replica.seen) == 1


async def test_probes_and_lists_let_the_model_sleep(asleep: Bench) -> None:
    asked = [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/v1/models", 200),
        ("POST", "/tokenize", 503),
        ("GET", "/metrics", 503),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/nothing", 404),
    ]
    for method, path, status in asked:
        async with asleep.session.request(method, asleep.http + path) as response:
            assert (path, response.status) == (path, status)
    async with asleep.session.get(asleep.http + "/v1/models") as response:
        listed = await response.json()
    assert listed["object"] == "list"
    assert [(model["id"], model["parent"]) for model in listed["data"]] == [
        ("tiny", None),
        ("tiny-sql", "tiny"),
    ]
    assert asleep.held() == 0


async def test_status_and_metrics_tell_who_waits(asleep: Bench) -> None:
    asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT, data=b"{}"))
    await until(lambda: asleep.held() == 1)
    async with asleep.session.get(asleep.ops + "/status") as response:
        status = await response.json()
    assert status["held"] == {"team/chat": 1}
    asking.cancel()
    await until(lambda: asleep.held() == 0)
    async with asleep.session.get(asleep.ops + "/metrics") as response:
        page = await response.text()
    ended = (
        'llmservice_activator_requests_total{namespace="team",outcome="cancelled",service="chat"}'
    )
    assert f"{ended} 1.0" in page
    assert "llmservice_activator_synced 1.0" in page
    for path in ("/healthz", "/readyz"):
        async with asleep.session.get(asleep.ops + path) as response:
            assert response.status == 200
