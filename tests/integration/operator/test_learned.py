"""A predictor's snapshot on a real API server: owned, of full size, and seen by nobody's watch."""

from __future__ import annotations

import base64
import random

import msgspec
import pytest
from cluster.controlplane import ControlPlane
from fakes.manifests import SETTINGS, pod, resource
from fakes.reports import report
from llmservice_api import names
from llmservice_operator.cluster import ObjectRef
from llmservice_operator.kubernetes_cluster import connected
from llmservice_operator.observed import Observed, Polled
from llmservice_operator.service import parse_service
from llmservice_operator.snapshots import LARGEST_BYTES, SnapshotKeeper

PAYLOAD = random.Random(3).randbytes(LARGEST_BYTES)


@pytest.fixture(autouse=True)
def kubeconfig(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))


async def snapshot_of(address: str) -> bytes:
    assert address
    return PAYLOAD


def one_replica() -> Observed:
    plain = report()
    predictor = msgspec.structs.replace(plain.predictor, learned=700)
    told = Polled(report=msgspec.structs.replace(plain, predictor=predictor))
    replica = pod(ready=True)
    return Observed(pods=(replica,), polled={replica["metadata"]["uid"]: told})


async def test_the_largest_snapshot_fits_and_belongs_to_its_service(namespace: str) -> None:
    async with connected() as cluster:
        wanted = resource("svc")
        wanted["metadata"] = {"name": "svc", "namespace": namespace}
        service = parse_service(await cluster.apply(wanted))
        keeper = SnapshotKeeper(cluster, snapshot_of, settings=SETTINGS, clock=lambda: 0.0)
        await keeper.keep(service, one_replica())
        ref = ObjectRef("v1", "ConfigMap", namespace, service.snapshot_map)
        live = await cluster.get(ref)
        assert live is not None
        kept = live["binaryData"][names.PREDICTOR_SNAPSHOT_FILE]
        assert base64.b64decode(kept) == PAYLOAD
        assert [owner["uid"] for owner in live["metadata"]["ownerReferences"]] == [service.uid]
        # Not labelled: what the operator watches, and reads at every look, stays small.
        assert names.LABEL_NAME not in live["metadata"].get("labels", {})
