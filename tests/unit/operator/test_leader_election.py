"""The Lease under virtual time: one leads, others wait, and nobody writes on borrowed time."""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime

import pytest
from llmservice_operator.cluster import ClusterError, ObjectRef, Refused
from llmservice_operator.kube_json import Manifest
from llmservice_operator.leader_election import LEASE_API, LeaderElection, NotLeader, Terms

pytestmark = pytest.mark.looptime

REF = ObjectRef(*LEASE_API, "ns", "operator")
TERMS = Terms(duration_s=15.0)
NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


class FakeLeases:
    """One Lease with optimistic locking; `away` makes every call fail, `slow_s` makes it wait."""

    def __init__(self) -> None:
        self.live: Manifest | None = None
        self.away = False
        self.slow_s = 0.0
        self.writes: list[str] = []
        self._version = 0

    async def get(self, ref: ObjectRef) -> Manifest | None:
        await self._reached()
        return copy.deepcopy(self.live)

    async def create(self, manifest: Manifest) -> Manifest:
        await self._reached()
        if self.live is not None:
            raise Refused("AlreadyExists", "it exists")
        return self._stored(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        await self._reached()
        if self.live is None:
            raise Refused("NotFound", "it is gone")
        live_version = self.live["metadata"]["resourceVersion"]
        if manifest["metadata"].get("resourceVersion") != live_version:
            raise Refused("Conflict", "it has changed")
        return self._stored(manifest)

    @property
    def holder(self) -> str:
        return "" if self.live is None else self.live["spec"]["holderIdentity"]

    def take(self, holder: str) -> None:
        """As somebody does who does not care for the rules."""
        assert self.live is not None
        taken = {**self.live["spec"], "holderIdentity": holder}
        self._stored({**self.live, "spec": taken})

    async def _reached(self) -> None:
        await asyncio.sleep(self.slow_s)
        if self.away:
            raise ClusterError("away")

    def _stored(self, manifest: Manifest) -> Manifest:
        self._version += 1
        live = copy.deepcopy(manifest)
        live["metadata"]["resourceVersion"] = str(self._version)
        self.live = live
        self.writes.append(live["spec"]["holderIdentity"])
        return copy.deepcopy(live)


class Clock:
    """The loop's time, and what the process has slept through."""

    def __init__(self) -> None:
        self.frozen_s = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.frozen_s


def candidate(
    leases: FakeLeases,
    identity: str,
    *,
    clock: Clock | None = None,
    outages: list[None] | None = None,
) -> LeaderElection:
    told = outages if outages is not None else []
    return LeaderElection(
        leases,
        ref=REF,
        identity=identity,
        terms=TERMS,
        clock=clock or Clock(),
        now=lambda: NOON,
        away=lambda: told.append(None),
    )


async def test_the_first_candidate_leads_at_once() -> None:
    leases = FakeLeases()
    first = candidate(leases, "a")
    with pytest.raises(NotLeader, match="ns/operator is not held"):
        first.check()
    await first.acquire()
    assert first.leading
    assert first.check() == pytest.approx(15.0)
    assert leases.live is not None
    assert leases.live["spec"] == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-11-21T12:00:00.000000Z",
        "renewTime": "2026-11-21T12:00:00.000000Z",
        "leaseTransitions": 1,
    }


async def test_while_one_leads_another_waits_for_ever() -> None:
    leases = FakeLeases()
    first, second = candidate(leases, "a"), candidate(leases, "b")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(300)
    assert (first.leading, second.leading) == (True, False)
    assert set(leases.writes) == {"a"}
    holding.cancel()
    waiting.cancel()
    await asyncio.gather(holding, waiting, return_exceptions=True)


async def test_a_dead_leader_is_followed_within_twenty_seconds() -> None:
    leases = FakeLeases()
    first, second = candidate(leases, "a"), candidate(leases, "b")
    await first.acquire()  # and never renews
    async with asyncio.timeout(20):
        await second.acquire()
    assert leases.holder == "b"
    assert not first.leading


async def test_nobody_takes_a_lease_before_its_holder_has_stopped_to_write() -> None:
    leases = FakeLeases()
    first, second = candidate(leases, "a"), candidate(leases, "b")
    await first.acquire()
    taking = asyncio.create_task(second.acquire())
    while not taking.done():
        assert not (first.leading and second.leading)
        await asyncio.sleep(0.05)
    with pytest.raises(NotLeader):
        first.check()


async def test_a_leader_that_gives_it_back_is_followed_at_the_next_look() -> None:
    leases = FakeLeases()
    first, second = candidate(leases, "a"), candidate(leases, "b")
    await first.acquire()
    taking = asyncio.create_task(second.acquire())
    await asyncio.sleep(1)
    await first.release()
    assert not first.leading
    async with asyncio.timeout(TERMS.retry_every_s + 1):
        await taking


async def test_a_frozen_leader_may_not_write_when_it_wakes_up() -> None:
    leases, clock = FakeLeases(), Clock()
    first, second = candidate(leases, "a", clock=clock), candidate(leases, "b")
    await first.acquire()
    await second_leads(second)
    clock.frozen_s = 60.0
    with pytest.raises(NotLeader):
        first.check()
    await first.hold()
    assert leases.holder == "b"


async def second_leads(second: LeaderElection) -> None:
    async with asyncio.timeout(20):
        await second.acquire()


async def test_a_renewal_that_took_long_counts_from_when_it_was_sent() -> None:
    leases = FakeLeases()
    first = candidate(leases, "a")
    leases.slow_s = 1.0
    await first.acquire()  # two calls of a second each
    assert first.check() == pytest.approx(13.0)


async def test_a_leader_that_cannot_renew_stops_after_two_thirds_of_the_lease() -> None:
    leases, outages = FakeLeases(), list[None]()
    first = candidate(leases, "a", outages=outages)
    await first.acquire()
    leases.away = True
    loop = asyncio.get_running_loop()
    started = loop.time()
    await first.hold()
    assert TERMS.renew_within_s <= loop.time() - started <= TERMS.renew_within_s + 2
    assert outages
    with pytest.raises(NotLeader):
        first.check()


async def test_a_short_outage_costs_nobody_the_lease() -> None:
    leases = FakeLeases()
    first = candidate(leases, "a")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    for _ in range(5):
        leases.away = True
        await asyncio.sleep(6)
        assert first.leading
        leases.away = False
        await asyncio.sleep(6)
    assert not holding.done()
    holding.cancel()


async def test_a_lease_that_was_taken_by_force_ends_the_leader_at_once() -> None:
    leases = FakeLeases()
    first = candidate(leases, "a")
    await first.acquire()
    leases.take("b")
    async with asyncio.timeout(2 * TERMS.retry_every_s + 1):
        await first.hold()
    assert not first.leading
    assert leases.holder == "b"


async def test_a_lease_that_somebody_has_annotated_is_renewed_all_the_same() -> None:
    leases = FakeLeases()
    first = candidate(leases, "a")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    leases.take("a")  # another version, the same holder
    await asyncio.sleep(60)
    assert first.leading
    holding.cancel()


async def test_a_deleted_lease_is_made_anew_by_its_holder() -> None:
    leases = FakeLeases()
    first = candidate(leases, "a")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    leases.live = None
    await asyncio.sleep(6)
    assert (first.leading, leases.holder) == (True, "a")
    holding.cancel()


async def test_of_two_that_start_together_one_leads() -> None:
    leases = FakeLeases()
    leases.slow_s = 0.01
    candidates = [candidate(leases, name) for name in "ab"]
    tasks = [asyncio.create_task(each.acquire()) for each in candidates]
    await asyncio.sleep(1)
    assert [task.done() for task in tasks].count(True) == 1
    assert [each.leading for each in candidates].count(True) == 1
    for task in tasks:
        task.cancel()


async def test_what_cannot_be_given_back_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    leases = FakeLeases()
    first = candidate(leases, "a")
    await first.acquire()
    leases.away = True
    await first.release()
    assert not first.leading
    assert "was not given back" in caplog.text
    await first.release()  # nothing to give
