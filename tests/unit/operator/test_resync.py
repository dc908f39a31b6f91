"""What the regular listing finds: changes that no watch has told, and kinds that came."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from fakes.manifests import SETTINGS
from llmservice_operator.cluster import ClusterError, ServiceKey
from llmservice_operator.kube_json import Manifest
from llmservice_operator.resync import Resync
from llmservice_operator.sight import Sight

pytestmark = pytest.mark.looptime


def thing(name: str, version: int) -> Manifest:
    metadata = {"namespace": "ns", "name": name, "resourceVersion": str(version)}
    return {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "metadata": metadata}


class Catalogue:
    """What is there; `away` makes everything fail."""

    def __init__(self) -> None:
        self.services: list[Manifest] = []
        self.away = False
        self.absent = 0  # so often the CRD is not there yet
        self.new_kinds = False

    async def served(self) -> bool:
        self._reach()
        self.absent -= 1
        return self.absent < 0

    async def discover(self) -> bool:
        self._reach()
        found, self.new_kinds = self.new_kinds, False
        return found

    async def list_services(self, namespace: str) -> AsyncGenerator[Manifest]:
        assert namespace == ""
        self._reach()
        for manifest in self.services:
            yield manifest

    def _reach(self) -> None:
        if self.away:
            raise ClusterError("away")


@asynccontextmanager
async def running(
    catalogue: Catalogue, sight: Sight
) -> AsyncGenerator[tuple[Resync, list[ServiceKey]]]:
    looks: list[ServiceKey] = []
    resync = Resync(catalogue, sight, look_at=looks.append, settings=replace(SETTINGS))
    task = asyncio.create_task(resync.run())
    try:
        yield resync, looks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def seeing() -> Sight:
    return Sight(namespaced=False, clock=asyncio.get_running_loop().time)


async def test_only_what_no_watch_has_told_is_looked_at() -> None:
    catalogue, sight = Catalogue(), seeing()
    catalogue.services = [thing("a", 5), thing("b", 9)]
    sight.told(thing("a", 5))
    async with running(catalogue, sight) as (_, looks):
        await asyncio.sleep(SETTINGS.resync_every_s + 1)
        assert looks == [ServiceKey("ns", "b")]
        assert sight.blind_s > 0


async def test_a_new_kind_has_every_service_looked_at_soon() -> None:
    catalogue, sight = Catalogue(), seeing()
    catalogue.services = [thing("a", 5)]
    sight.told(thing("a", 5))
    async with running(catalogue, sight) as (resync, looks):
        resync.definitions_changed()
        await asyncio.sleep(5)
        assert looks == []  # a definition of no kind of ours
        catalogue.new_kinds = True
        resync.definitions_changed()
        await asyncio.sleep(5)
        assert looks == [ServiceKey("ns", "a")]


async def test_while_the_api_server_is_away_nothing_is_listed_and_nothing_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalogue, sight = Catalogue(), seeing()
    catalogue.services = [thing("a", 5)]
    catalogue.away = True
    async with running(catalogue, sight) as (_, looks):
        await asyncio.sleep(SETTINGS.resync_every_s * 2 + 1)
        assert looks == []
        assert sight.blind_s == 0
        catalogue.away = False
        await asyncio.sleep(SETTINGS.resync_every_s)
        assert looks == [ServiceKey("ns", "a")]
    assert "services could not be listed: away" in caplog.text


async def test_it_waits_for_the_definition_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    catalogue = Catalogue()
    catalogue.absent = 2
    resync = Resync(catalogue, seeing(), look_at=lambda _: None, settings=SETTINGS)
    with caplog.at_level(logging.WARNING):
        await resync.until_served()
    assert caplog.text.count("install the CRD") == 2
