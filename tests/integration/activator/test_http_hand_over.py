"""How requests over HTTP reach a replica, and what comes back of its answer."""

from __future__ import annotations

import asyncio
import gzip
import io

import aiohttp
import pytest
from fakes.replica import EVENTS, FakeReplica
from integration.activator.conftest import CHAT, KEY, Bench, until
from llmservice_api.activation import Replica
from yarl import URL

ANSWER = b"".join(EVENTS)
NOBODY = Replica("127.0.0.1:9", "127.0.0.1:9")


async def test_what_comes_while_a_replica_is_ready_is_passed_on_untouched(asleep: Bench) -> None:
    replica = FakeReplica()
    body = gzip.compress(b'{"model":"tiny"}')
    headers = {
        "Authorization": "Bearer key",
        "Content-Encoding": "gzip",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "mine",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    }
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        await until(lambda: asleep.activator.doors.awake(KEY))
        url = URL(f"{asleep.http}{CHAT}?a=%2Fb&c=d", encoded=True)
        async with asleep.session.post(url, data=body, headers=headers) as response:
            assert response.status == 200
            assert await response.read() == ANSWER
            answered = response.headers
    request = replica.seen[0]
    assert request.raw_path == f"{CHAT}?a=%2Fb&c=d"
    assert replica.bodies[0] == body
    for name in ("Authorization", "Content-Encoding", "traceparent"):
        assert request.headers[name] == headers[name]
    assert "X-Hop" not in request.headers
    assert request.headers["Host"] == asleep.http.removeprefix("http://")
    assert answered["Content-Type"] == "text/event-stream"
    assert answered["X-Own"] == "yes"
    assert "Keep-Alive" not in answered
    # So that the client's next connection finds the replica itself.
    assert answered["Connection"] == "close"
    assert "x-llmservice-held-ms" not in answered


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", "/tokenize")])
async def test_a_ready_replica_answers_the_paths_that_wake_nobody(
    asleep: Bench, method: str, path: str
) -> None:
    replica = FakeReplica()
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        await until(lambda: asleep.activator.doors.awake(KEY))
        async with asleep.session.request(method, asleep.http + path) as response:
            assert await response.read() == ANSWER
    assert replica.seen[0].path == path


async def test_a_replica_that_cannot_be_reached_is_as_good_as_none_to_a_probe(
    asleep: Bench,
) -> None:
    asleep.operator.tell("chat", NOBODY)
    await until(lambda: asleep.activator.doors.awake(KEY))
    async with asleep.session.get(asleep.http + "/health") as response:
        assert response.status == 200


async def test_events_are_passed_on_as_they_come(asleep: Bench) -> None:
    replica = FakeReplica(slow=True)
    asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT))
    await until(lambda: asleep.held() == 1)
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        response = await asking
        assert await response.content.readexactly(len(EVENTS[0])) == EVENTS[0]
        replica.release.set()
        assert await response.read() == EVENTS[1] + EVENTS[2]


async def test_a_client_that_leaves_ends_the_replicas_answer(asleep: Bench) -> None:
    replica = FakeReplica(slow=True)
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        async with asleep.session.post(asleep.http + CHAT) as response:
            await response.content.readany()
            response.close()
        await until(lambda: replica.aborted == 1)


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(asleep: Bench) -> None:
    replica = FakeReplica(break_after=2)
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        await until(lambda: asleep.activator.doors.awake(KEY))
        async with asleep.session.post(asleep.http + CHAT) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_a_replica_that_ends_hands_its_requests_to_another(asleep: Bench) -> None:
    leaving = FakeReplica(refusals=[(503, {"retry-after-ms": "60000"})] * 3)
    staying = FakeReplica()
    async with leaving.running() as first, staying.running() as second:
        asleep.operator.tell("chat", first, NOBODY, second)
        await until(lambda: asleep.activator.doors.awake(KEY))
        for _ in range(3):
            async with asleep.session.post(asleep.http + CHAT) as response:
                assert response.status == 200
    assert (len(leaving.seen), len(staying.seen)) == (0, 3)


async def test_the_last_replica_ends_and_the_request_waits_for_the_next(asleep: Bench) -> None:
    leaving = FakeReplica(refusals=[(503, {})] * 100)
    async with leaving.running() as address:
        asleep.operator.tell("chat", address)
        await until(lambda: asleep.activator.doors.awake(KEY))
        asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT, data=b"once"))
        await until(lambda: asleep.held() == 1)
        asleep.operator.tell("chat")
    fresh = FakeReplica()
    async with fresh.running() as address:
        asleep.operator.tell("chat", address)
        assert (await asking).status == 200
    assert fresh.bodies == [b"once"]


async def test_a_crowd_that_the_activator_made_is_let_in_little_by_little(asleep: Bench) -> None:
    replica = FakeReplica(refusals=[(429, {"retry-after-ms": "50"})] * 2)
    asking = [asyncio.create_task(asleep.session.post(asleep.http + CHAT)) for _ in range(5)]
    await until(lambda: asleep.held() == 5)
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        assert [(await task).status for task in asking] == [200] * 5


async def test_overload_of_a_service_that_is_awake_is_the_clients_to_hear(asleep: Bench) -> None:
    replica = FakeReplica(refusals=[(429, {"retry-after-ms": "50"})])
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        await until(lambda: asleep.activator.doors.awake(KEY))
        async with asleep.session.post(asleep.http + CHAT) as response:
            assert (response.status, response.headers["retry-after-ms"]) == (429, "50")


async def test_requests_are_spread_among_the_replicas_that_are_ready(asleep: Bench) -> None:
    replicas = [FakeReplica() for _ in range(3)]
    asking = [asyncio.create_task(asleep.session.post(asleep.http + CHAT)) for _ in range(30)]
    await until(lambda: asleep.held() == 30)
    async with (
        replicas[0].running() as first,
        replicas[1].running() as second,
        replicas[2].running() as third,
    ):
        asleep.operator.tell("chat", first, second, third)
        for task in asking:
            assert await (await task).read() == ANSWER
    assert sum(len(replica.seen) for replica in replicas) == 30
    assert min(len(replica.seen) for replica in replicas) >= 5


async def test_the_largest_body_goes_through(asleep: Bench) -> None:
    body = bytes(range(256)) * 65536  # 16 MiB
    data = io.BytesIO(body)
    asking = asyncio.create_task(asleep.session.post(asleep.http + CHAT, data=data))
    await until(lambda: asleep.held() == 1)
    replica = FakeReplica()
    async with replica.running() as address:
        asleep.operator.tell("chat", address)
        assert (await asking).status == 200
    assert replica.bodies == [body]
