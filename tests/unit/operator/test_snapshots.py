"""What predictors have learned is copied from the replica that knows most, and never too often."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from fakes.cluster import FakeCluster
from fakes.manifests import SETTINGS, pod, resource, service
from fakes.reports import report
from llmservice_api import names
from llmservice_operator.cluster import ObjectRef, Refused, ServiceKey
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed, Polled
from llmservice_operator.snapshots import SnapshotKeeper

KEY = ServiceKey("ns", "svc")
MAP = ObjectRef("v1", "ConfigMap", "ns", "svc-predictor")


class Replicas:
    """Pods that have learned so much, their snapshots, and a clock."""

    def __init__(self) -> None:
        self.cluster = FakeCluster(resource())
        self.now = 0.0
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.keeper = SnapshotKeeper(
            self.cluster, self.fetch, settings=SETTINGS, clock=lambda: self.now
        )

    async def fetch(self, address: str) -> bytes:
        self.asked.append(address)
        if self.error is not None:
            raise self.error
        return address.encode()

    async def look(self, learned: Sequence[int], **predictor: Any) -> None:
        await self.keeper.keep(service(predictor=predictor), observed(learned))

    @property
    def kept(self) -> bytes | None:
        live = self.cluster.objects.get(MAP)
        if live is None:
            return None
        return base64.b64decode(live["binaryData"][names.PREDICTOR_SNAPSHOT_FILE])


def observed(learned: Sequence[int]) -> Observed:
    pods: list[Manifest] = []
    polled: dict[str, Polled] = {}
    for number, outcomes in enumerate(learned, start=1):
        each = pod(f"svc-{number}", ready=True)
        each["status"]["podIP"] = f"10.0.0.{number}"
        pods.append(each)
        plain = report()
        predictor = msgspec.structs.replace(plain.predictor, learned=outcomes)
        told = msgspec.structs.replace(plain, predictor=predictor)
        polled[f"uid-svc-{number}"] = Polled(report=told)
    return Observed(pods=tuple(pods), polled=polled)


async def test_the_replica_that_has_learned_most_is_copied() -> None:
    replicas = Replicas()
    await replicas.look([55, 70, 59])
    assert replicas.kept == b"10.0.0.2"


async def test_the_copy_goes_with_the_service_and_nobody_watches_it() -> None:
    replicas = Replicas()
    await replicas.look([50])
    metadata = replicas.cluster.objects[MAP]["metadata"]
    assert [owner["name"] for owner in metadata["ownerReferences"]] == ["svc"]
    assert names.LABEL_NAME not in metadata["labels"]


@pytest.mark.parametrize("learned", [[], [0], [0, 0], [49]])
async def test_hardly_anything_learned_is_nothing_to_copy(learned: list[int]) -> None:
    replicas = Replicas()
    await replicas.look(learned)
    assert (replicas.kept, replicas.asked) == (None, [])


@pytest.mark.parametrize(
    ("after_s", "learned", "copied"),
    [(60.0, 9000, False), (601.0, 101, False), (601.0, 200, True), (601.0, 60, True)],
    ids=["too soon", "hardly anything new", "much new", "all have begun anew"],
)
async def test_a_copy_is_made_when_it_is_time_and_worth_it(
    after_s: float, learned: int, *, copied: bool
) -> None:
    replicas = Replicas()
    await replicas.look([100])
    replicas.now = after_s
    await replicas.look([learned])
    assert len(replicas.asked) == (2 if copied else 1)


@pytest.mark.parametrize(
    ("kept", "learned", "replaced"),
    [(20_000, 50, False), (20_000, 1_999, False), (20_000, 2_000, True), (300, 299, False)],
)
async def test_pods_that_inherited_nothing_do_not_replace_what_is_kept_until_they_know_as_much(
    kept: int, learned: int, *, replaced: bool
) -> None:
    replicas = Replicas()
    await replicas.look([60, kept])
    assert replicas.kept == b"10.0.0.2"
    replicas.now = 601.0
    await replicas.look([learned])
    assert (replicas.kept == b"10.0.0.1") is replaced


async def test_pods_that_do_not_learn_are_not_asked() -> None:
    replicas = Replicas()
    await replicas.look([20_000], onlineLearning="Disabled")
    assert replicas.asked == []


async def test_a_replica_that_does_not_answer_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replicas = Replicas()
    replicas.error = TimeoutError()
    await replicas.look([100])
    assert replicas.kept is None
    assert "TimeoutError" in caplog.text


async def test_somebody_elses_config_map_is_not_touched(caplog: pytest.LogCaptureFixture) -> None:
    replicas = Replicas()
    foreign: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": MAP.name, "namespace": "ns"},
        "data": {"a": "b"},
    }
    replicas.cluster.put(foreign)
    await replicas.look([100])
    assert "binaryData" not in replicas.cluster.objects[MAP]
    assert "belongs to somebody else" in caplog.text


async def test_a_refusal_of_the_api_server_is_told_and_survived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replicas = Replicas()
    replicas.cluster.refusals["ConfigMap"] = Refused("Forbidden", "quota is used up")
    await replicas.look([100])
    assert "quota is used up" in caplog.text


async def test_a_service_that_is_made_anew_is_copied_at_once() -> None:
    replicas = Replicas()
    await replicas.look([100])
    replicas.keeper.forget(KEY)
    await replicas.look([100])
    assert len(replicas.asked) == 2
