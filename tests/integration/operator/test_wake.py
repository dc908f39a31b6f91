"""From the first request to a sleeping service to its answer: operator and activator together."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from cluster.controlplane import ControlPlane
from fakes.live_activator import SELECTOR, LiveActivator, make_activator_pod, own_address
from fakes.live_operator import LiveOperator, View, eventually
from fakes.live_pods import make_all_ready
from fakes.replica import EVENTS, FakeReplica
from llmservice_api import names
from llmservice_sidecar.activator.grpc_door import GENERATE

Json = dict[str, Any]
# Of this machine, and nobody else's; its ports are those of a pod's doors.
REPLICA = "127.0.9.93"
CHAT = "/v1/chat/completions"


@pytest.fixture
def waking(plane: ControlPlane, namespace: str) -> Generator[LiveOperator]:
    running = LiveOperator(
        plane,
        f"--namespace={namespace}",
        f"--activator-namespace={namespace}",
        f"--activator-selector={SELECTOR}",
    )
    yield running
    print(running.log.read_text()[-20_000:])
    assert running.stop() == 0
    running.log.unlink()


@pytest.fixture
def activator(waking: LiveOperator, view: View, tmp_path: Path) -> Generator[LiveActivator]:
    """On the address that its pod has, so that the operator can ask it."""
    url = f"http://127.0.0.1:{waking.http_port}"
    with LiveActivator(url, tmp_path / "activator.log", host=own_address()) as running:
        make_activator_pod(view, own_address())
        yield running
        print(running.log.read_text()[-5_000:])


def make_service_sleep(view: View) -> None:
    view.apply(scaling={"minReplicas": 0, "maxReplicas": 2})
    eventually(lambda: view.get("deploy/svc"))
    view.kubectl("scale", "deploy/svc", "--replicas=0")
    eventually(lambda: view.list("pods", "-l", names.LABEL_NAME), until=lambda seen: not seen)


def door(view: View) -> Json:
    """Where the Service leads: the activator's address, and its ports by name."""
    found = view.get("endpointslice/svc-activator")
    endpoints: list[Json] = found.get("endpoints") or []
    if not endpoints:
        return {}
    ports = {port["name"]: port["port"] for port in found["ports"]}
    return {"host": endpoints[0]["addresses"][0], **ports}


async def test_requests_wake_a_sleeping_service_and_none_is_lost(
    view: View, waking: LiveOperator, activator: LiveActivator
) -> None:
    await asyncio.to_thread(make_service_sleep, view)
    leads_to = await asyncio.to_thread(eventually, lambda: door(view))
    url = f"http://{leads_to['host']}:{leads_to['http']}"
    replica = FakeReplica()
    async with (
        replica.running(REPLICA, http_port=names.PORT_HTTP, grpc_port=names.PORT_GRPC),
        aiohttp.ClientSession() as session,
        grpc.aio.insecure_channel(f"{leads_to['host']}:{leads_to['grpc']}") as channel,
    ):
        async with session.get(f"{url}/v1/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["svc"]

        held = [asyncio.create_task(session.post(url + CHAT, data=str(n))) for n in range(20)]
        untyped: Any = channel
        call = untyped.unary_stream(GENERATE)(b"hello")
        # What an autoscaler asks: there is work, though there is no replica.
        told = await asyncio.to_thread(
            eventually,
            lambda: waking.backlog(view.namespace, "svc"),
            until=lambda seen: seen.get("held_requests") == 21,
        )
        assert told["total_backlog_seconds"] > 0
        assert told["replicas"] == 0

        await asyncio.to_thread(view.kubectl, "scale", "deploy/svc", "--replicas=1")
        await asyncio.to_thread(
            eventually, lambda: make_all_ready(view, REPLICA, "-l", names.LABEL_NAME)
        )
        for task in held:
            response = await task
            assert response.status == 200
            assert await response.read() == b"".join(EVENTS)
        assert [message async for message in call] == list(EVENTS)
    assert sorted(map(int, replica.bodies)) == list(range(20))
    assert activator.running()
