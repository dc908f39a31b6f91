"""A service at zero replicas: its Service leads to the activator until a replica is ready."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from cluster.controlplane import ControlPlane
from fakes.live_activator import SELECTOR, make_activator_pod
from fakes.live_operator import LiveOperator, View, eventually
from fakes.live_pods import make_all_ready
from llmservice_api import names

Json = dict[str, Any]
SCALING = {"minReplicas": 0, "maxReplicas": 2}
ACTIVATOR = "10.9.8.7"
REPLICA = "10.9.8.10"
NODE = "node-of-activation"
SLICE = "endpointslice/svc-activator"


def start(plane: ControlPlane, namespace: str) -> LiveOperator:
    """An operator for one namespace, with the activator in it."""
    return LiveOperator(
        plane,
        f"--namespace={namespace}",
        f"--activator-namespace={namespace}",
        f"--activator-selector={SELECTOR}",
    )


@pytest.fixture
def waking(plane: ControlPlane, namespace: str) -> Generator[LiveOperator]:
    running = start(plane, namespace)
    yield running
    print(running.log.read_text()[-20_000:])
    assert running.stop() == 0
    running.log.unlink()


def leads_to(view: View) -> list[str] | None:
    """The activators that the Service leads to; None while there is no slice."""
    found = view.get(SLICE)
    endpoints: list[Json] = found.get("endpoints") or []
    return [one["addresses"][0] for one in endpoints] if found else None


def ports(view: View) -> dict[str, int]:
    """What the slice records."""
    return {port["name"]: port["port"] for port in view.get(SLICE)["ports"]}


def make_service_sleep(view: View) -> None:
    """At zero replicas, as KEDA would bring it there."""
    view.apply(scaling=SCALING)
    eventually(lambda: view.get("deploy/svc"))
    view.kubectl("scale", "deploy/svc", "--replicas=0")
    eventually(lambda: view.list("pods", "-l", names.LABEL_NAME), until=lambda seen: not seen)


def wake(view: View) -> None:
    """One replica, ready since long."""
    view.kubectl("scale", "deploy/svc", "--replicas=1")
    eventually(lambda: view.list("pods", "-l", names.LABEL_NAME))
    make_service_pods_ready(view)


def make_service_pods_ready(view: View) -> None:
    for pod in view.list("pods", "-l", names.LABEL_NAME):
        if "nodeName" not in pod["spec"]:
            bind(view, pod["metadata"]["name"])
    make_all_ready(view, REPLICA, "-l", names.LABEL_NAME)


def bind(view: View, pod: str) -> None:
    """As the scheduler does: without a node a pod is nobody's endpoint."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
    }
    path = f"/api/v1/namespaces/{view.namespace}/pods/{pod}/binding"
    view.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(manifest))


@pytest.fixture(autouse=True)
def node(plane: ControlPlane) -> Generator[None]:
    """A node of that name; nothing runs on it."""
    manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    yield
    plane.kubectl("delete", f"node/{NODE}", "--wait=false")


@pytest.mark.usefixtures("waking")
def test_the_service_leads_to_the_activator_exactly_while_no_replica_is_ready(view: View) -> None:
    make_activator_pod(view, ACTIVATOR)
    make_service_sleep(view)
    eventually(lambda: leads_to(view), until=lambda seen: seen == [ACTIVATOR])
    asleep = view.get(SLICE)
    assert asleep["metadata"]["labels"][names.LABEL_SLICE_SERVICE] == "svc"
    assert asleep["addressType"] == "IPv4"
    recorded = ports(view)
    assert set(recorded) == {"http", "grpc"}

    wake(view)
    eventually(lambda: leads_to(view), until=lambda seen: seen == [])
    assert ports(view) == recorded

    # A replica that is told to end is no replica, however ready it still is.
    view.kubectl("scale", "deploy/svc", "--replicas=0")
    eventually(lambda: leads_to(view), until=lambda seen: seen == [ACTIVATOR])
    assert ports(view) == recorded


@pytest.mark.usefixtures("waking")
def test_activators_that_come_and_go_are_followed(view: View) -> None:
    make_service_sleep(view)
    assert leads_to(view) in (None, [])
    make_activator_pod(view, ACTIVATOR)
    eventually(lambda: leads_to(view), until=lambda seen: seen == [ACTIVATOR])
    make_activator_pod(view, "10.9.8.8", name="activator-1")
    eventually(lambda: leads_to(view), until=lambda seen: seen == [ACTIVATOR, "10.9.8.8"])
    view.kubectl("delete", "pod/activator-0", "--now")
    eventually(lambda: leads_to(view), until=lambda seen: seen == ["10.9.8.8"])


def test_ports_outlive_the_operator(plane: ControlPlane, view: View, namespace: str) -> None:
    first = start(plane, namespace)
    make_activator_pod(view, ACTIVATOR)
    make_service_sleep(view)
    eventually(lambda: leads_to(view), until=lambda seen: seen == [ACTIVATOR])
    # Another pair than the name leads to: only the slice can tell of it.
    moved = [{"name": "http", "port": 10_000}, {"name": "grpc", "port": 10_001}]
    first.kill()
    view.patch(SLICE, {"ports": moved})
    before = view.get(SLICE)["metadata"]["resourceVersion"]
    second = start(plane, namespace)
    eventually(lambda: ports(view) if view.reason("Ready")[0] else None)
    wake(view)
    eventually(lambda: leads_to(view), until=lambda seen: seen == [])
    assert ports(view) == {"http": 10_000, "grpc": 10_001}
    assert view.get(SLICE)["metadata"]["resourceVersion"] != before
    assert second.stop() == 0
    for running in (first, second):
        running.log.unlink()


@pytest.mark.usefixtures("waking")
def test_a_service_that_does_not_sleep_any_more_has_no_slice(view: View) -> None:
    make_activator_pod(view, ACTIVATOR)
    make_service_sleep(view)
    eventually(lambda: leads_to(view), until=lambda seen: seen == [ACTIVATOR])
    view.patch("llmsvc/svc", {"spec": {"suspend": True}})
    eventually(lambda: leads_to(view), until=lambda seen: seen is None)
    view.patch("llmsvc/svc", {"spec": {"suspend": False}})
    eventually(lambda: leads_to(view), until=lambda seen: seen is not None)
    view.patch("llmsvc/svc", {"spec": {"scaling": {"minReplicas": 1}}})
    wake(view)
    eventually(lambda: leads_to(view), until=lambda seen: seen is None)
    view.kubectl("delete", "llmsvc/svc")
