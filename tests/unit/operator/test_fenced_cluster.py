"""Only the leader writes, and its writes end before what it holds does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from fakes.cluster import FakeCluster
from fakes.manifests import resource
from llmservice_operator.cluster import ServiceKey
from llmservice_operator.fenced_cluster import FencedCluster
from llmservice_operator.kube_json import Manifest
from llmservice_operator.leader_election import NotLeader

pytestmark = pytest.mark.looptime
KEY = ServiceKey("ns", "svc")


def lapsed() -> float:
    raise NotLeader("not held")


def fenced(cluster: FakeCluster, check: Callable[[], float]) -> FencedCluster:
    return FencedCluster(cluster, check=check)


async def test_whoever_does_not_lead_reads_and_writes_nothing() -> None:
    cluster = FakeCluster(resource())
    other = fenced(cluster, lapsed)
    assert await other.get(KEY.ref)
    assert not await other.pods_of(KEY)
    with pytest.raises(NotLeader):
        await other.apply(resource())
    with pytest.raises(NotLeader):
        await other.delete(KEY.ref, uid="uid-svc")
    assert (cluster.applied, cluster.deleted) == ([], [])


async def test_the_leader_writes() -> None:
    cluster = FakeCluster(resource())
    leader = fenced(cluster, lambda: 5.0)
    await leader.apply(resource(suspend=True))
    await leader.delete(KEY.ref, uid="uid-svc")
    assert cluster.deleted == [KEY.ref]
    assert leader.capabilities == cluster.capabilities


class Slow(FakeCluster):
    """Takes an hour for everything."""

    async def apply(self, manifest: Manifest, **_: str) -> Manifest:  # pyright: ignore[reportIncompatibleMethodOverride] - the test uses none
        await asyncio.sleep(3600)
        return manifest


async def test_a_write_that_would_outlast_the_lease_is_given_up() -> None:
    leader = fenced(Slow(), lambda: 5.0)
    started = asyncio.get_running_loop().time()
    with pytest.raises(NotLeader, match="given up"):
        await leader.apply(resource())
    assert asyncio.get_running_loop().time() - started == pytest.approx(5.0)
