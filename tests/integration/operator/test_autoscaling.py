"""Kubernetes' own autoscaler, as it is, moves the real number of replicas by the backlog."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from cluster.controlplane import ControlPlane
from fakes.custom_metrics import custom_metrics
from fakes.live_operator import LiveOperator, View, eventually
from fakes.live_pods import SharedSidecar, make_all_ready
from llmservice_api import names

pytestmark = pytest.mark.slow

Json = dict[str, Any]
# An address of this machine that nothing else listens on; the port is the sidecar's.
ADDRESS = "127.0.9.91"
SCALING = {"minReplicas": 1, "maxReplicas": 3, "targetBacklogSeconds": 30, "idleSeconds": 1}


@pytest.fixture
def sidecar() -> Generator[SharedSidecar]:
    with SharedSidecar(ADDRESS) as running:
        yield running


@pytest.fixture
def metrics(plane: ControlPlane, namespace: str, operator: LiveOperator) -> Generator[None]:
    url = f"http://127.0.0.1:{operator.http_port}/backlog"
    with custom_metrics(plane, namespace=namespace, backlog_url=url):
        yield


def replicas(view: View) -> int:
    """How many are asked for; every pod that there is gets ready on the way."""
    make_all_ready(view, ADDRESS)
    return view.get("deploy/svc")["spec"]["replicas"]


def writers(view: View) -> set[str]:
    """Who says how many replicas there are."""
    live = view.get("deploy/svc", "--show-managed-fields")
    return {
        entry["manager"]
        for entry in live["metadata"]["managedFields"]
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }


@pytest.mark.usefixtures("metrics")
def test_replicas_follow_the_backlog_up_and_down_and_are_handed_over(
    view: View, sidecar: SharedSidecar
) -> None:
    view.apply(scaling=SCALING)
    eventually(lambda: view.get("hpa/svc"))
    eventually(lambda: replicas(view), until=lambda seen: seen == 1)

    sidecar.backlog_s = 75.0  # two and a half times what one replica may have
    eventually(lambda: replicas(view), until=lambda seen: seen == 3, within_s=60)
    eventually(
        lambda: view.reason("ScalingReady"),
        until=lambda seen: seen in {("True", "ScalingActive"), ("True", "AtMaximum")},
    )
    assert names.FIELD_MANAGER not in writers(view)

    sidecar.backlog_s = 0.0
    eventually(lambda: replicas(view), until=lambda seen: seen == 1, within_s=60)
    assert names.FIELD_MANAGER not in writers(view)

    sidecar.backlog_s = 75.0
    eventually(lambda: replicas(view), until=lambda seen: seen == 3, within_s=60)
    view.patch("llmsvc/svc", {"spec": {"scaling": None, "replicas": 2}})
    eventually(lambda: view.get("hpa/svc"), until=lambda seen: not seen)
    eventually(lambda: replicas(view), until=lambda seen: seen == 2)
    assert names.FIELD_MANAGER in writers(view)

    view.patch("llmsvc/svc", {"spec": {"scaling": {**SCALING, "minReplicas": 2}, "replicas": None}})
    eventually(lambda: view.get("hpa/svc"))
    eventually(lambda: writers(view), until=lambda seen: names.FIELD_MANAGER not in seen)
    assert replicas(view) >= 2, "the number is kept until the autoscaler has seen the metric"


@pytest.mark.usefixtures("metrics")
def test_suspend_takes_the_autoscaler_away_and_brings_it_back(
    view: View, sidecar: SharedSidecar
) -> None:
    sidecar.backlog_s = 45.0
    view.apply(scaling=SCALING)
    eventually(lambda: replicas(view), until=lambda seen: seen == 2, within_s=60)
    view.patch("llmsvc/svc", {"spec": {"suspend": True}})
    eventually(lambda: view.get("hpa/svc"), until=lambda seen: not seen)
    eventually(lambda: replicas(view), until=lambda seen: seen == 0)
    assert view.reason("ScalingReady") == ("True", "Suspended")
    eventually(lambda: view.list("pods"), until=lambda seen: not seen)

    view.patch("llmsvc/svc", {"spec": {"suspend": False}})
    eventually(lambda: replicas(view), until=lambda seen: seen == 2, within_s=60)


@pytest.mark.usefixtures("operator")
def test_without_the_metric_it_says_what_is_missing(view: View) -> None:
    view.apply(scaling=SCALING)
    eventually(lambda: view.get("deploy/svc"))
    make_all_ready(view, ADDRESS)
    eventually(
        lambda: view.reason("ScalingReady"),
        until=lambda seen: seen == ("False", "MetricUnavailable"),
        within_s=60,
    )
    assert names.METRIC_BACKLOG in view.condition("ScalingReady")["message"]


@pytest.mark.usefixtures("operator")
def test_kubectl_scale_moves_replicas(view: View) -> None:
    view.apply()
    for count in (3, 1):
        view.kubectl("scale", "llmsvc/svc", f"--replicas={count}")
        eventually(
            lambda: view.get("llmsvc/svc").get("status", {}).get("replicas"),
            until=lambda seen, count=count: seen == count,
        )
