"""One look at a service: what is applied, pruned, written, told, and when the next look is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from fakes.cluster import FakeCluster
from fakes.manifests import NOW, SETTINGS, deployment, pod, resource
from llmservice_api import names
from llmservice_operator.cluster import ObjectRef, Refused, ServiceKey, ref_of, ref_to
from llmservice_operator.conditions import Condition, parse_conditions
from llmservice_operator.kinds import ENDPOINT_SLICE
from llmservice_operator.kube_json import Manifest, entries
from llmservice_operator.observed import Observed
from llmservice_operator.polling import Poller
from llmservice_operator.reconcile import Reconciler
from llmservice_operator.service import Service
from llmservice_operator.snapshots import SnapshotKeeper

KEY = ServiceKey("ns", "svc")
DEPLOYMENT = ObjectRef("apps/v1", "Deployment", "ns", "svc")
SERVICE = ObjectRef("v1", "Service", "ns", "svc")


async def nobody_answers(address: str) -> bytes:
    raise OSError(address)


class Nobody:
    """Looks away."""

    def read(self, raw: Manifest) -> None: ...

    def judged(self, key: ServiceKey, conditions: Sequence[Condition]) -> None: ...

    def gone(self, key: ServiceKey) -> None: ...


def reconciler(cluster: FakeCluster) -> Reconciler:
    poller = Poller(nobody_answers, changed=lambda _: None, settings=SETTINGS)
    return Reconciler(
        cluster,
        inventory=cluster.inventory,
        poller=poller,
        keepers=(no_snapshots(cluster),),
        witness=Nobody(),
        settings=SETTINGS,
        now=lambda: NOW,
    )


def no_snapshots(cluster: FakeCluster) -> SnapshotKeeper:
    return SnapshotKeeper(cluster, nobody_answers, settings=SETTINGS, clock=lambda: 0.0)


def written(cluster: FakeCluster, kind: str) -> Condition:
    status = entries(cluster.objects[KEY.ref], "status", "conditions")
    return next(condition for condition in parse_conditions(status) if condition.type == kind)


def kinds(cluster: FakeCluster) -> list[str]:
    return [ref.kind for ref, _, _ in cluster.applied]


def became_ready(cluster: FakeCluster) -> None:
    live = cluster.objects[DEPLOYMENT]
    cluster.put(live | {"status": deployment(ready=1)["status"]})
    cluster.put(pod(ready=True))


async def test_a_new_service_gets_its_objects_then_its_status_then_an_event() -> None:
    cluster = FakeCluster(resource())
    again_s = await reconciler(cluster).reconcile(KEY)
    assert kinds(cluster) == [
        "ServiceAccount", "ConfigMap", "Service", "Service", "PodDisruptionBudget", "Deployment",
        "LLMService", "Event",
    ]  # fmt: skip
    assert again_s == SETTINGS.settling_recheck_s


async def test_a_settled_service_is_left_alone() -> None:
    cluster = FakeCluster(resource())
    looks = reconciler(cluster)
    await looks.reconcile(KEY)
    became_ready(cluster)
    await looks.reconcile(KEY)
    cluster.applied.clear()
    again_s = await looks.reconcile(KEY)
    assert cluster.applied == []
    assert again_s == SETTINGS.settled_recheck_s
    assert written(cluster, "Ready").status == "True"


async def test_a_changed_object_is_applied_again() -> None:
    cluster = FakeCluster(resource())
    looks = reconciler(cluster)
    await looks.reconcile(KEY)
    cluster.applied.clear()
    cluster.put(cluster.objects[SERVICE] | {"spec": {"ports": []}})
    await looks.reconcile(KEY)
    assert SERVICE in [ref for ref, _, _ in cluster.applied]
    assert len(cluster.objects[SERVICE]["spec"]["ports"]) == 2


async def test_a_deleted_object_comes_back() -> None:
    cluster = FakeCluster(resource())
    looks = reconciler(cluster)
    await looks.reconcile(KEY)
    del cluster.objects[SERVICE]
    await looks.reconcile(KEY)
    assert SERVICE in cluster.objects


async def test_an_owned_object_that_is_no_longer_desired_is_pruned() -> None:
    cluster = FakeCluster(resource())
    looks = reconciler(cluster)
    await looks.reconcile(KEY)
    old = cluster.objects[SERVICE]
    cluster.put(old | {"metadata": old["metadata"] | {"name": "svc-old", "uid": "u"}})
    await looks.reconcile(KEY)
    assert [ref.name for ref in cluster.deleted] == ["svc-old"]


async def test_a_labelled_object_of_somebody_else_is_not_pruned() -> None:
    labels = {names.LABEL_NAME: "svc"}
    stranger: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "notes", "namespace": "ns", "labels": labels},
    }
    cluster = FakeCluster(resource(), stranger)
    await reconciler(cluster).reconcile(KEY)
    assert cluster.deleted == []


async def test_an_object_of_somebody_else_is_never_overwritten() -> None:
    stranger: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "svc", "namespace": "ns"},
    }
    cluster = FakeCluster(resource(), stranger)
    await reconciler(cluster).reconcile(KEY)
    assert "spec" not in cluster.objects[SERVICE]
    assert written(cluster, "Ready").reason == "NameConflict"


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (Refused("Forbidden", "exceeded quota: pods"), "QuotaExceeded"),
        (Refused("Invalid", "spec.template is bad"), "ApplyRefused"),
    ],
)
async def test_a_refused_object_is_told_in_the_status(refusal: Refused, reason: str) -> None:
    cluster = FakeCluster(resource())
    cluster.refusals["Deployment"] = refusal
    await reconciler(cluster).reconcile(KEY)
    assert written(cluster, "Ready").reason == reason
    assert refusal.message in written(cluster, "Ready").message


async def test_a_spec_that_cannot_be_read_leaves_everything_as_it_is() -> None:
    cluster = FakeCluster(resource())
    looks = reconciler(cluster)
    await looks.reconcile(KEY)
    cluster.applied.clear()
    bad = resource(engine={"unknownField": 1})
    cluster.put(bad | {"status": cluster.objects[KEY.ref]["status"]})
    await looks.reconcile(KEY)
    assert kinds(cluster) == ["LLMService", "Event"]
    assert written(cluster, "SpecAccepted").reason == "InvalidSpec"
    assert cluster.deleted == []


async def test_a_model_that_is_no_longer_supported_stops_nothing() -> None:
    cluster = FakeCluster(resource())
    looks = reconciler(cluster)
    await looks.reconcile(KEY)
    cluster.put(resource(model={"uri": "gs://bucket/name"}))
    await looks.reconcile(KEY)
    assert DEPLOYMENT in cluster.objects
    assert written(cluster, "Ready").reason == "UnsupportedScheme"


async def test_a_deleted_service_is_left_to_garbage_collection() -> None:
    cluster = FakeCluster()
    assert await reconciler(cluster).reconcile(KEY) is None
    leaving = resource()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z"
    cluster.put(leaving)
    assert await reconciler(cluster).reconcile(KEY) is None
    assert cluster.applied == []


async def test_replicas_keep_their_number_when_they_are_handed_over() -> None:
    cluster = FakeCluster(resource(replicas=3))
    looks = reconciler(cluster)
    await looks.reconcile(KEY)
    live = cluster.objects[DEPLOYMENT]
    live["metadata"]["managedFields"] = [
        {"manager": names.FIELD_MANAGER, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    ]
    cluster.put(live)
    cluster.put(resource(scaling={"maxReplicas": 8}))
    cluster.applied.clear()
    await looks.reconcile(KEY)
    managers = [manager for ref, _, manager in cluster.applied if ref == DEPLOYMENT]
    assert managers == [f"{names.FIELD_MANAGER}-scaling", names.FIELD_MANAGER]
    assert cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 3


async def test_a_service_that_went_away_while_it_was_judged_is_no_error() -> None:
    cluster = FakeCluster(resource())
    cluster.refusals["status"] = Refused("Conflict", "uid mismatch")
    await reconciler(cluster).reconcile(KEY)


async def test_a_status_that_is_refused_otherwise_is_an_error() -> None:
    cluster = FakeCluster(resource())
    cluster.refusals["status"] = Refused("Forbidden", "no rights")
    with pytest.raises(Refused, match="no rights"):
        await reconciler(cluster).reconcile(KEY)


async def test_events_that_may_not_be_written_stop_nothing() -> None:
    cluster = FakeCluster(resource())
    cluster.refusals["Event"] = Refused("Forbidden", "no rights")
    await reconciler(cluster).reconcile(KEY)
    assert written(cluster, "Ready").status == "False"


async def test_the_models_claim_is_looked_up() -> None:
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store", "namespace": "ns"},
        "status": {"phase": "Bound"},
    }
    cluster = FakeCluster(resource(model={"uri": "pvc://store/m"}), claim)
    await reconciler(cluster).reconcile(KEY)
    assert written(cluster, "ModelReady").reason == "ClaimFound"


async def test_the_next_look_is_ever_later_while_nothing_moves() -> None:
    cluster = FakeCluster(resource())
    now = NOW
    looks = Reconciler(
        cluster,
        inventory=cluster.inventory,
        poller=Poller(nobody_answers, changed=lambda _: None, settings=SETTINGS),
        keepers=(no_snapshots(cluster),),
        witness=Nobody(),
        settings=SETTINGS,
        now=lambda: now,
    )
    pauses: list[float | None] = []
    for minutes in (0, 1, 10):
        now = NOW + timedelta(minutes=minutes)
        pauses.append(await looks.reconcile(KEY))
    assert pauses == [SETTINGS.settling_recheck_s, 30.0, SETTINGS.unsettled_recheck_s]


class Told:
    """A stand-in that makes nothing, and a keeper; remembers what it was shown."""

    def __init__(self) -> None:
        self.live: list[Mapping[ObjectRef, Manifest]] = []
        self.pods: list[int] = []
        self.passed: list[ServiceKey] = []

    def place(self, service: Service) -> ObjectRef:
        return ref_to(ENDPOINT_SLICE, service.namespace, f"{service.name}-activator")

    async def manifests(
        self, service: Service, live: Mapping[ObjectRef, Manifest]
    ) -> Sequence[Manifest]:
        self.live.append(live)
        return ()

    async def keep(self, service: Service, observed: Observed) -> None:
        self.pods.append(len(observed.pods))

    def passed_over(self, key: ServiceKey) -> None:
        self.passed.append(key)

    def forget(self, key: ServiceKey) -> None: ...


def with_stand_in(cluster: FakeCluster, told: Told) -> Reconciler:
    return Reconciler(
        cluster,
        inventory=cluster.inventory,
        poller=Poller(nobody_answers, changed=lambda _: None, settings=SETTINGS),
        keepers=(told,),
        witness=Nobody(),
        settings=SETTINGS,
        now=lambda: NOW,
        stand_in=told,
    )


async def test_a_stand_in_is_not_shown_what_is_somebody_elses() -> None:
    foreign = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "svc-activator", "namespace": "ns"},
    }
    cluster, told = FakeCluster(resource(), foreign, pod(ready=True)), Told()
    await with_stand_in(cluster, told).reconcile(KEY)
    (shown,) = told.live
    assert [ref.kind for ref in shown] == ["Pod"]
    assert ref_of(foreign) in cluster.objects


def changed(status: Manifest | None = None, **spec: Any) -> Manifest:
    """The service with another spec."""
    made = resource(**spec)
    made["metadata"]["generation"] = 4
    return made if status is None else made | {"status": status}


async def test_a_template_that_cannot_be_laid_over_leaves_what_runs_to_be_followed() -> None:
    cluster, told = FakeCluster(resource()), Told()
    looks = with_stand_in(cluster, told)
    await looks.reconcile(KEY)
    became_ready(cluster)
    cluster.applied.clear()
    cluster.put(changed(template={"spec": {"containers": [{"image": "nameless"}]}}))
    cluster.put(pod("second", ready=True))
    await looks.reconcile(KEY)
    assert kinds(cluster) == ["LLMService", "Event"]
    assert cluster.deleted == []
    assert written(cluster, "SpecAccepted").reason == "InvalidSpec"
    status = cluster.objects[KEY.ref]["status"]
    assert (status["url"], status["replicas"]) == ("http://svc.ns.svc:8000", 1)
    assert told.pods == [0, 2]
    assert [len([ref for ref in live if ref.kind == "Pod"]) for live in told.live] == [0, 2]
    assert told.passed == []


async def test_of_a_spec_that_cannot_be_read_the_status_stays_and_nobody_waits_for_it() -> None:
    cluster, told = FakeCluster(resource()), Told()
    looks = with_stand_in(cluster, told)
    await looks.reconcile(KEY)
    cluster.put(changed(cluster.objects[KEY.ref]["status"], engine={"fromTheFuture": True}))
    await looks.reconcile(KEY)
    status = cluster.objects[KEY.ref]["status"]
    assert (status["url"], status["observedGeneration"]) == ("http://svc.ns.svc:8000", 4)
    assert told.passed == [KEY]


async def test_news_waits_until_the_status_could_be_written() -> None:
    cluster = FakeCluster(resource())
    cluster.refusals["status"] = Refused("Forbidden", "no rights to llmservices/status")
    with pytest.raises(Refused):
        await reconciler(cluster).reconcile(KEY)
    assert "Event" not in kinds(cluster)
