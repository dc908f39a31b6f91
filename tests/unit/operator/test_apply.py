"""Applying what is desired: what counts as drift, in which order, and what an error leaves."""

from __future__ import annotations

import asyncio

import pytest
from fakes.cluster import FakeCluster
from fakes.manifests import SETTINGS, resource
from llmservice_api import names
from llmservice_operator.apply import Applier
from llmservice_operator.cluster import ClusterError, ObjectRef, Refused
from llmservice_operator.conditions import Finding
from llmservice_operator.desired import desired
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import parse_service

DEPLOYMENT = ObjectRef("apps/v1", "Deployment", "ns", "svc")
SERVICE = ObjectRef("v1", "Service", "ns", "svc")


class SlowCluster(FakeCluster):
    """Fails at once for a ConfigMap, and takes its time for everything else."""

    async def apply(
        self, manifest: Manifest, *, subresource: str = "", manager: str = names.FIELD_MANAGER
    ) -> Manifest:
        if manifest["kind"] == "ConfigMap":
            raise ClusterError("gone")
        await asyncio.sleep(0.01)
        return await super().apply(manifest, subresource=subresource, manager=manager)


async def apply_all(applier: Applier, cluster: FakeCluster) -> Finding | None:
    service = parse_service(resource())
    live = dict(cluster.objects)
    _, problem = await applier.apply_all(service, desired(service, SETTINGS), live)
    return problem


async def test_a_status_that_others_write_is_no_reason_to_apply_again() -> None:
    cluster = FakeCluster()
    applier = Applier(cluster)
    await apply_all(applier, cluster)
    live = cluster.objects[DEPLOYMENT]
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    live["metadata"]["managedFields"] = [{"manager": "kube-controller-manager"}]
    live["status"] = {"readyReplicas": 1}
    cluster.put(live)
    cluster.applied.clear()
    await apply_all(applier, cluster)
    assert cluster.applied == []


@pytest.mark.parametrize(
    ("part", "left"), [("labels", {names.LABEL_NAME: "svc"}), ("annotations", {})]
)
async def test_metadata_that_others_take_away_comes_back(part: str, left: dict[str, str]) -> None:
    cluster = FakeCluster()
    applier = Applier(cluster)
    await apply_all(applier, cluster)
    before = cluster.objects[DEPLOYMENT]["metadata"][part]
    cluster.objects[DEPLOYMENT]["metadata"][part] = left
    await apply_all(applier, cluster)
    assert cluster.objects[DEPLOYMENT]["metadata"][part] == before


async def test_pods_are_made_only_when_all_that_they_use_is_there() -> None:
    cluster = FakeCluster()
    cluster.refusals["ConfigMap"] = Refused("Forbidden", "exceeded quota")
    problem = await apply_all(Applier(cluster), cluster)
    assert problem is not None
    assert problem.reason == "QuotaExceeded"
    assert SERVICE in cluster.objects
    assert DEPLOYMENT not in cluster.objects


async def test_nothing_is_under_way_any_more_when_an_error_is_told() -> None:
    cluster = SlowCluster()
    with pytest.raises(ClusterError):
        await apply_all(Applier(cluster), cluster)
    assert SERVICE in cluster.objects
    assert DEPLOYMENT not in cluster.objects
