"""When the activator stands in for a service, and what activators are told."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.manifests import service
from llmservice_api import names
from llmservice_api.activation import Activation, Beat, Removed, Replica, Synced
from llmservice_operator.activation import OVERLAP_S, Activations
from llmservice_operator.activation_feed import Feed
from llmservice_operator.activator_ports import PortBook
from llmservice_operator.cluster import ClusterError, ObjectRef, ServiceKey, ref_of
from llmservice_operator.desired.activation import (
    ActivatorPorts,
    activation_slice,
    may_sleep,
    recorded_ports,
)
from llmservice_operator.kinds import Kind
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import Service

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LONG = timedelta(seconds=OVERLAP_S)
SLEEPS: dict[str, Any] = {"scaling": {"minReplicas": 0, "maxReplicas": 2}}
IPV4 = "10.0.0.9"


def sleeper(**spec: Any) -> Service:
    return service(**{**SLEEPS, **spec})


KEY = ServiceKey(sleeper().namespace, sleeper().name)


def pod(address: str = "10.1.0.1", *, since: timedelta = LONG, **metadata: Any) -> Manifest:
    """A ready replica."""
    at = (NOW - since).isoformat()
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": address, "namespace": KEY.namespace, "uid": address, **metadata},
        "status": {
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}],
        },
    }


class FakeSlices:
    """What the API server has beside what a look at a service lists."""

    def __init__(self) -> None:
        self.ours: list[Manifest] = []
        self.kubernetes_ready = True
        self.fails = 0

    async def list_selected(
        self, kind: Kind, namespace: str, *, selector: str
    ) -> Sequence[Manifest]:
        if self.fails:
            self.fails -= 1
            raise ClusterError("away")
        if names.LABEL_SLICE_SERVICE not in selector:
            return self.ours
        return [{"endpoints": [{"conditions": {"ready": self.kubernetes_ready}}]}]


class World:
    """One service under one operator."""

    def __init__(self, addresses: Sequence[str] = (IPV4,)) -> None:
        self.slices = FakeSlices()
        self.addresses = list(addresses)
        self.looks: list[tuple[float, ServiceKey]] = []
        self.live: dict[ObjectRef, Manifest] = {}
        self.activations = Activations(
            self.slices,
            addresses=lambda: self.addresses,
            look_in=lambda after_s, key: self.looks.append((after_s, key)),
            ports=PortBook(lambda: 0.0),
            now=lambda: NOW,
        )

    async def look(self, *pods: Manifest, of: Service | None = None) -> list[str] | None:
        """Where the Service leads afterwards; None: there is no slice."""
        await self.activations.load(())
        live = self.live | {ref_of(one): one for one in pods}
        made = await self.activations.manifests(of or sleeper(), live)
        self.live = {ref_of(one): one for one in made}
        if not made:
            return None
        return [endpoint["addresses"][0] for endpoint in made[0]["endpoints"]]


@pytest.mark.parametrize(
    ("spec", "sleeps"),
    [
        (SLEEPS, True),
        ({"scaling": {"minReplicas": 1, "maxReplicas": 2}}, False),
        ({"replicas": 0}, False),
        ({**SLEEPS, "suspend": True}, False),
        ({**SLEEPS, "security": {"tlsSecretRef": {"name": "tls"}}}, False),
    ],
    ids=["from zero", "from one", "by hand", "suspended", "TLS"],
)
def test_who_may_sleep(spec: dict[str, Any], sleeps: bool) -> None:
    assert may_sleep(service(**spec)) is sleeps


def test_the_slice_turns_the_services_ports_into_the_activators() -> None:
    ports = ActivatorPorts(10_004, 10_005)
    made = activation_slice(sleeper(), ports, ["10.0.0.2", "10.0.0.1"], family="IPv4")
    assert made["metadata"]["labels"][names.LABEL_SLICE_SERVICE] == KEY.name
    assert [endpoint["addresses"] for endpoint in made["endpoints"]] == [["10.0.0.1"], ["10.0.0.2"]]
    assert recorded_ports(made) == ports
    assert recorded_ports({"ports": [{"name": "http", "port": 1}]}) is None


async def test_it_stands_in_until_a_replica_is_ready_for_a_while() -> None:
    world = World()
    assert await world.look() == [IPV4]
    assert await world.look(pod(since=timedelta(seconds=OVERLAP_S - 1))) == [IPV4]
    assert await world.look(pod()) == []


async def test_it_stands_in_until_kubernetes_leads_to_the_replica() -> None:
    world = World()
    await world.look()
    world.slices.kubernetes_ready = False
    assert await world.look(pod()) == [IPV4]
    world.slices.kubernetes_ready = True
    assert await world.look(pod()) == []


async def test_a_replica_that_ends_is_none() -> None:
    world = World()
    await world.look(pod())
    assert await world.look(pod(deletionTimestamp="2026-11-01T00:00:00Z")) == [IPV4]


async def test_a_worker_of_a_replica_is_none() -> None:
    worker = pod(labels={names.LABEL_WORKER_INDEX: "1"})
    assert await World().look(worker) == [IPV4]


async def test_an_operator_that_restarts_does_not_stand_in_where_nobody_did() -> None:
    world = World()
    assert await world.look(pod(since=timedelta(0))) == []


async def test_it_looks_again_when_the_overlap_is_over() -> None:
    world = World()
    await world.look()
    await world.look(pod(since=timedelta(seconds=4)))
    assert world.looks == [(OVERLAP_S - 4, KEY)]


async def test_without_an_activator_there_is_no_slice_until_one_comes() -> None:
    world = World(addresses=())
    assert await world.look() is None
    world.addresses = [IPV4]
    world.activations.activators_changed()
    assert world.looks == [(0.0, KEY)]
    assert await world.look() == [IPV4]
    world.addresses = []
    assert await world.look() == []


async def test_a_slice_keeps_its_family_of_addresses() -> None:
    world = World(addresses=["fd00::9"])
    assert await world.look() == ["fd00::9"]
    (made,) = world.live.values()
    assert made["addressType"] == "IPv6"
    world.addresses = [IPV4, "fd00::9"]
    assert await world.look() == ["fd00::9"]


async def test_what_was_asleep_is_waited_for_when_it_may_not_sleep_any_more() -> None:
    world = World()
    await world.look()
    always = service(scaling={"minReplicas": 1, "maxReplicas": 2})
    assert await world.look(of=always) == [IPV4]
    assert await world.look(pod(), of=always) is None


async def test_a_suspended_service_refuses_at_once() -> None:
    world = World()
    await world.look()
    assert await world.look(of=sleeper(suspend=True)) is None


async def test_ports_in_live_slices_are_known_before_any_are_given() -> None:
    world = World()
    found = activation_slice(sleeper(), ActivatorPorts(10_000, 10_001), [], family="IPv4")
    found["metadata"]["creationTimestamp"] = "2026-10-01T00:00:00Z"
    world.slices.ours = [found]
    world.slices.fails = 1
    await world.look()
    (made,) = world.live.values()
    assert recorded_ports(made) == (10_000, 10_001)
    assert world.looks == [(0.0, KEY)]


async def next_of(feed: Feed) -> tuple[Any, list[Any]]:
    updates = feed.updates()
    return updates, await anext(updates)


async def test_activators_hear_of_replicas_and_of_the_end() -> None:
    world = World()
    await world.look()
    updates, first = await next_of(world.activations.feed)
    (told,) = first
    assert isinstance(told, Activation)
    assert (told.namespace, told.name, told.replicas) == (*KEY, ())
    assert told.models[0] == sleeper().model_name
    assert await anext(updates) == [Synced()]
    await world.look(pod("10.1.0.2"), pod("fd00::1"))
    (told,) = await anext(updates)
    assert told.replicas == (
        Replica("10.1.0.2:8000", "10.1.0.2:50051"),
        Replica("[fd00::1]:8000", "[fd00::1]:50051"),
    )
    world.activations.forget(KEY)
    assert await anext(updates) == [Removed(namespace=KEY.namespace, name=KEY.name)]
    await updates.aclose()


async def test_nothing_is_complete_before_every_service_with_a_slice_was_looked_at() -> None:
    world = World()
    found = activation_slice(sleeper(), ActivatorPorts(10_000, 10_001), [], family="IPv4")
    found["metadata"]["creationTimestamp"] = "2026-10-01T00:00:00Z"
    gone = activation_slice(sleeper(), ActivatorPorts(10_002, 10_003), [], family="IPv4")
    gone["metadata"] = {
        "namespace": "team",
        "labels": {names.LABEL_SLICE_SERVICE: "gone"},
        "creationTimestamp": "2026-10-01T00:00:00Z",
    }
    unreadable = copy.deepcopy(gone)
    unreadable["metadata"]["labels"][names.LABEL_SLICE_SERVICE] = "unreadable"
    world.slices.ours = [found, gone, unreadable]
    await world.activations.load(())
    updates = world.activations.feed.updates()
    waiting = asyncio.create_task(anext(updates))
    await world.look()
    (told,) = await waiting
    assert isinstance(told, Activation)
    waiting = asyncio.create_task(anext(updates))
    await asyncio.sleep(0)
    world.activations.forget(ServiceKey("team", "gone"))
    await asyncio.sleep(0)
    assert not waiting.done()
    world.activations.passed_over(ServiceKey("team", "unreadable"))
    assert await waiting == [Synced()]
    await updates.aclose()


async def test_a_slow_activator_hears_of_each_service_once_and_of_the_latest() -> None:
    feed = Feed({})
    updates = feed.updates()
    waiting = asyncio.create_task(anext(updates))
    await asyncio.sleep(0)

    def told(port: int) -> Activation:
        return Activation(namespace="team", name="a", http_port=port, grpc_port=port + 1)

    for port in (1, 2, 3):
        feed.tell(ServiceKey("team", "a"), told(port))
    assert await waiting == [told(3)]
    await updates.aclose()


async def test_a_quiet_stream_beats() -> None:
    updates = Feed({}, beat_s=0.01).updates()
    assert await anext(updates) == [Beat()]
    await updates.aclose()
