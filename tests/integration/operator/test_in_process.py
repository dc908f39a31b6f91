"""The API server's client and kopf's handlers in this very process, on a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import kopf
import pytest
from cluster.controlplane import ControlPlane
from fakes.live_operator import View, eventually
from fakes.manifests import SETTINGS, resource
from llmservice_operator.cluster import ClusterError, ObjectRef, Refused, ServiceKey, ref_of
from llmservice_operator.handlers import registry_for
from llmservice_operator.kube_json import Manifest
from llmservice_operator.kubernetes_cluster import connected
from llmservice_operator.operator_process import OperatorProcess


@pytest.fixture(autouse=True)
def kubeconfig(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))


def config_map(namespace: str, **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "notes",
            "namespace": namespace,
            "labels": {"llmservice.dev/name": "svc"},
        },
        "data": data,
    }


async def test_an_object_is_applied_read_and_deleted(namespace: str) -> None:
    async with connected() as cluster:
        ref = ref_of(config_map(namespace))
        assert await cluster.get(ref) is None
        made = await cluster.apply(config_map(namespace, a="1"))
        again = await cluster.apply(config_map(namespace, a="1"))
        assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        found = await cluster.get(ref)
        assert found is not None
        assert ref_of(found) == ref
        assert not await cluster.pods_of(ServiceKey(namespace, "svc"))
        with pytest.raises(Refused):
            await cluster.delete(ref, uid="of-somebody-else")
        await cluster.delete(ref, uid=made["metadata"]["uid"])
        assert await cluster.get(ref) is None
        await cluster.delete(ref, uid=made["metadata"]["uid"])


async def test_a_refusal_carries_the_api_servers_words(namespace: str) -> None:
    bad = config_map(namespace)
    bad["metadata"]["name"] = "Not_A_Name"
    async with connected() as cluster:
        with pytest.raises(Refused) as refusal:
            await cluster.apply(bad)
    assert refusal.value.reason == "Invalid"
    assert "metadata.name" in refusal.value.message


async def test_a_status_of_nobody_is_refused(namespace: str) -> None:
    body: Manifest = resource("ghost") | {
        "metadata": {"name": "ghost", "namespace": namespace},
        "status": {"replicas": 1},
    }
    del body["spec"]
    async with connected() as cluster:
        with pytest.raises(Refused) as refusal:
            await cluster.apply(body, subresource="status")
    assert refusal.value.reason == "NotFound"


async def test_a_server_that_is_away_is_no_refusal(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = tmp_path_factory.mktemp("away") / "kubeconfig"
    away.write_text(plane.kubeconfig.read_text().replace(plane.server, "https://127.0.0.1:1"))
    monkeypatch.setenv("KUBECONFIG", str(away))
    async with connected() as cluster:
        with pytest.raises(ClusterError) as error:
            await cluster.get(ObjectRef("v1", "ConfigMap", "default", "x"))
    assert not isinstance(error.value, Refused)


async def test_services_are_listed(plane: ControlPlane, namespace: str) -> None:
    body = resource("listed")
    body["metadata"] = {"name": "listed", "namespace": namespace}
    plane.kubectl("create", "-f", "-", stdin=json.dumps(body))
    async with connected() as cluster:
        assert await cluster.served()
        (found,) = [found async for found in cluster.list_services(namespace)]
        everywhere = [found["metadata"]["uid"] async for found in cluster.list_services("")]
    assert (found["kind"], found["metadata"]["name"]) == ("LLMService", "listed")
    assert found["metadata"]["uid"] in everywhere
    assert "spec" not in found


@asynccontextmanager
async def running(namespace: str) -> AsyncGenerator[OperatorProcess]:
    """The whole operator under kopf, for one namespace, until the context ends."""
    settings = replace(SETTINGS, namespaces=(namespace,), resync_every_s=0.5)
    process = OperatorProcess(settings)
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(
        kopf.operator(
            registry=registry_for(process, settings),
            standalone=True,
            namespaces=settings.namespaces,
            stop_flag=stop,
            ready_flag=ready,
        )
    )
    async with asyncio.timeout(30):
        await ready.wait()
    try:
        yield process
    finally:
        stop.set()
        await task


async def test_kopf_leads_every_event_to_a_look(view: View) -> None:
    def comes_back() -> None:
        view.apply()
        eventually(view.exist)
        eventually(lambda: view.condition("Stalled"))
        view.kubectl("delete", "service", "svc")
        eventually(view.exist)

    async with running(view.namespace) as process:
        # In a thread: kubectl waits, and the operator runs on this loop.
        await asyncio.to_thread(comes_back)
        await asyncio.to_thread(eventually, lambda: process.depth == 0)
