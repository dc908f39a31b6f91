"""What an autoscaler is told: the sum over replicas, what is held, and what keeps a start alive."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from fakes.manifests import NOW, deployment, pod, service
from fakes.reports import report
from llmservice_api import names
from llmservice_operator.backlog import (
    Backlog,
    Backlogs,
    UnknownBacklogError,
    UnknownServiceError,
    backlog,
)
from llmservice_operator.cluster import ServiceKey
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed, Polled

KEY = ServiceKey("ns", "svc")
SCALED = {"maxReplicas": 8, "targetBacklogSeconds": 30}


def told(backlog_s: float, queued: int = 0) -> Polled:
    return Polled(report=report(backlog_s=backlog_s, queued=queued))


def ready(number: int) -> Manifest:
    return pod(f"svc-{number}", ready=True)


def starting(number: int, *, minutes: int = 1) -> Manifest:
    made = pod(f"svc-{number}")
    created = NOW - timedelta(minutes=minutes)
    made["metadata"]["creationTimestamp"] = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    return made


def seen(
    pods: list[Manifest],
    answers: dict[str, Polled] | None = None,
    *,
    held: int = 0,
    wanted: int | None = None,
    **spec: Any,
) -> Backlog:
    spec.setdefault("scaling", SCALED)
    observed = Observed(pods=tuple(pods), workload=deployment(wanted=wanted or len(pods)))
    return backlog(service(**spec), observed, answers=answers or {}, held=held, now=NOW)


def test_the_sum_is_over_replicas_and_the_mean_is_per_replica() -> None:
    found = seen([ready(1), ready(2)], {"uid-svc-1": told(40.0, queued=3), "uid-svc-2": told(20.0)})
    assert (found.total_backlog_seconds, found.backlog_seconds) == (60.0, 30.0)
    assert (found.replicas, found.queued_requests, found.silent_replicas) == (2, 3, 0)


def test_a_replica_that_does_not_answer_is_taken_to_be_like_the_others() -> None:
    silent = Polled(error="no answer in 5 s")
    found = seen([ready(1), ready(2)], {"uid-svc-1": told(40.0), "uid-svc-2": silent})
    assert (found.total_backlog_seconds, found.silent_replicas) == (80.0, 1)


def test_nothing_is_said_while_no_ready_replica_has_answered() -> None:
    with pytest.raises(UnknownBacklogError, match="ns/svc"):
        seen([ready(1)])


def test_without_any_replica_there_is_no_backlog() -> None:
    assert seen([]).total_backlog_seconds == 0.0


def test_a_replica_whose_pod_is_not_made_yet_is_starting() -> None:
    def told_at(replicas: int) -> float:
        observed = Observed(workload=deployment(wanted=replicas))
        wanted = service(scaling=SCALED)
        found = backlog(wanted, observed, answers={}, held=0, now=NOW)
        return found.total_backlog_seconds

    assert told_at(1) == 30.0
    assert told_at(0) == 0.0


def test_a_replica_with_requests_is_never_idle_whatever_it_predicts() -> None:
    assert seen([ready(1)], {"uid-svc-1": told(0.0, queued=1)}).total_backlog_seconds == 1.0


def test_requests_that_are_held_for_a_replica_count() -> None:
    found = seen([], held=64, engine={"maxNumSeqs": 8})
    assert found.total_backlog_seconds == 80.0
    assert found.held_requests == 64


def test_one_request_that_is_held_is_never_rounded_to_nothing() -> None:
    assert seen([], held=1).total_backlog_seconds >= 1.0


def test_replicas_that_load_a_model_are_not_taken_away_meanwhile() -> None:
    found = seen([ready(1), starting(2), starting(3, minutes=29)], {"uid-svc-1": told(0.0)})
    assert found.total_backlog_seconds == 3 * 30
    assert found.starting_replicas == 2


def test_the_surge_of_a_rollout_is_not_scaled_to() -> None:
    found = seen([ready(1), starting(2)], {"uid-svc-1": told(0.0)}, wanted=1)
    assert found.total_backlog_seconds == 30


def test_a_replica_that_never_starts_does_not_keep_the_number_up_for_ever() -> None:
    assert seen([starting(1, minutes=41)]).total_backlog_seconds == 0.0


def test_a_replica_on_its_way_out_is_not_starting() -> None:
    leaving = starting(1)
    leaving["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    assert seen([leaving]).starting_replicas == 0


def test_only_the_leader_of_a_group_is_a_replica() -> None:
    worker = ready(2)
    worker["metadata"]["labels"][names.LABEL_WORKER_INDEX] = "1"
    found = seen([ready(1), worker], {"uid-svc-1": told(12.0)})
    assert (found.replicas, found.total_backlog_seconds) == (1, 12.0)


class Sidecars:
    """A service of one replica, and how often its sidecar was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.time_s = 100.0
        self.patience = asyncio.Event()
        self.patience.set()
        self.backlogs = Backlogs(
            ask=self.ask,
            answers=lambda _: {"uid-svc-1": told(float(self.asked))},
            now=lambda: NOW,
            clock=lambda: self.time_s,
        )

    async def ask(self, key: ServiceKey) -> None:
        assert key == KEY
        self.asked += 1
        await self.patience.wait()

    async def look(self) -> None:
        await self.backlogs.keep(service(scaling=SCALED), Observed(pods=(ready(1),)))


async def test_sidecars_are_asked_anew_but_not_for_every_question() -> None:
    sidecars = Sidecars()
    await sidecars.look()
    first = [await sidecars.backlogs.of(KEY) for _ in range(3)]
    sidecars.time_s += 6.0
    last = await sidecars.backlogs.of(KEY)
    assert [found.total_backlog_seconds for found in first] == [1.0, 1.0, 1.0]
    assert last.total_backlog_seconds == 2.0


@pytest.mark.looptime
async def test_a_sidecar_that_hangs_does_not_hold_up_the_answer() -> None:
    sidecars = Sidecars()
    sidecars.patience.clear()
    await sidecars.look()
    async with asyncio.timeout(2.5):
        assert (await sidecars.backlogs.of(KEY)).total_backlog_seconds == 1.0


async def test_a_service_that_is_gone_is_not_known() -> None:
    sidecars = Sidecars()
    with pytest.raises(UnknownServiceError, match="ns/svc"):
        await sidecars.backlogs.of(KEY)
    await sidecars.look()
    sidecars.backlogs.forget(KEY)
    with pytest.raises(UnknownServiceError):
        await sidecars.backlogs.of(KEY)


async def test_requests_that_others_hold_are_added() -> None:
    sidecars = Sidecars()
    sidecars.backlogs.add_held(lambda key: 256 if key == KEY else 0)
    await sidecars.look()
    assert (await sidecars.backlogs.of(KEY)).total_backlog_seconds == 1.0 + 256 * 10 / 128
