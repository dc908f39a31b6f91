"""The activator's pods: who is ready, and how many requests they hold together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import aiohttp
import msgspec
from llmservice_api.activation import ActivatorReport
from llmservice_operator.activators import Activators
from llmservice_operator.cluster import ClusterError, ServiceKey
from llmservice_operator.kinds import Kind
from llmservice_operator.kube_json import Manifest

KEY = ServiceKey("team", "chat")


def pod(address: str, *, ready: bool = True, phase: str = "Running") -> Manifest:
    return {
        "metadata": {"name": address},
        "status": {
            "podIP": address,
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


class World:
    """Pods as a test says, and what each of them answers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.changes = 0
        self.reports: dict[str, ActivatorReport | bytes] = {}
        self.states: asyncio.Queue[Sequence[Manifest] | ClusterError] = asyncio.Queue()
        self.activators = Activators(
            self,
            self.fetch,
            namespace="system",
            selector="a=b",
            changed=self.count,
            clock=lambda: self.now,
        )

    def count(self) -> None:
        self.changes += 1

    async def follow(
        self, kind: Kind, namespace: str, *, selector: str
    ) -> AsyncGenerator[Sequence[Manifest]]:
        assert (kind.kind, namespace, selector) == ("Pod", "system", "a=b")
        while True:
            state = await self.states.get()
            self.states.task_done()
            if isinstance(state, ClusterError):
                raise state
            yield state

    async def fetch(self, address: str) -> bytes:
        told = self.reports.get(address)
        if told is None:
            raise aiohttp.ClientConnectionError("nobody there")
        return told if isinstance(told, bytes) else msgspec.json.encode(told)

    async def show(self, *pods: Manifest) -> None:
        """These are the pods from now on."""
        following = asyncio.create_task(self.activators.follow())
        self.states.put_nowait(pods)
        await self.states.join()
        await asyncio.sleep(0)
        following.cancel()
        await asyncio.wait({following})

    async def held(self) -> int:
        await self.activators.ask_once()
        return self.activators.held(KEY)


def holding(count: int) -> ActivatorReport:
    return ActivatorReport(synced=True, held={str(KEY): count, "team/other": 7})


async def test_only_ready_ones_are_led_to_and_a_change_is_told_once() -> None:
    world = World()
    await world.show(pod("10.0.0.2"), pod("10.0.0.1"), pod("10.0.0.3", ready=False))
    assert list(world.activators.addresses) == ["10.0.0.1", "10.0.0.2"]
    await world.show(pod("10.0.0.1"), pod("10.0.0.2"))
    assert world.changes == 1
    await world.show()
    assert (list(world.activators.addresses), world.changes) == ([], 2)


async def test_what_all_of_them_hold_is_added_up_also_of_those_that_leave() -> None:
    world = World()
    world.reports = {"10.0.0.1": holding(3), "10.0.0.2": holding(4)}
    await world.show(pod("10.0.0.1"), pod("10.0.0.2", ready=False), pod("10.0.0.3"))
    assert await world.held() == 7
    assert world.activators.held(ServiceKey("team", "nobody")) == 0


async def test_one_that_has_fallen_silent_counts_for_a_while() -> None:
    world = World()
    world.reports = {"10.0.0.1": holding(3)}
    await world.show(pod("10.0.0.1"))
    assert await world.held() == 3
    world.reports = {"10.0.0.1": b"no report"}
    world.now = 14.0
    assert await world.held() == 3
    world.now = 15.0
    assert await world.held() == 0


async def test_one_that_is_gone_does_not_count() -> None:
    world = World()
    world.reports = {"10.0.0.1": holding(3)}
    await world.show(pod("10.0.0.1"))
    assert await world.held() == 3
    await world.show(pod("10.0.0.1", phase="Succeeded"))
    assert await world.held() == 0
