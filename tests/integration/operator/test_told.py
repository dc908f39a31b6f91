"""What a user is told when a spec asks for what cannot be, or cannot be yet."""

from __future__ import annotations

import json

import pytest
from fakes.live_operator import LiveOperator, View, eventually

pytestmark = pytest.mark.usefixtures("operator")


def test_kinds_that_the_cluster_does_not_have_are_told(view: View) -> None:
    view.apply(monitoring={"podMonitor": "Enabled"})
    eventually(
        lambda: view.reason("SpecAccepted"), until=lambda seen: seen == ("True", "MissingKind")
    )
    said = view.condition("SpecAccepted")["message"]
    assert "spec.monitoring.podMonitor needs PodMonitor" in said


def test_overlay_that_removes_the_engine_is_refused_and_nothing_changes(view: View) -> None:
    view.apply()
    eventually(view.exist)
    before = view.get("deploy/svc")["metadata"]["generation"]
    gone = {"spec": {"containers": [{"name": "main", "$patch": "delete"}]}}
    view.patch("llmsvc/svc", {"spec": {"template": gone}})
    eventually(
        lambda: view.reason("SpecAccepted"), until=lambda seen: seen == ("False", "InvalidSpec")
    )
    assert "spec.template" in view.condition("SpecAccepted")["message"]
    assert view.get("deploy/svc")["metadata"]["generation"] == before


def test_pod_that_the_api_server_refuses_is_told_in_its_words(view: View) -> None:
    view.apply(template={"spec": {"containers": [{"name": "main", "imagePullPolicy": "Often"}]}})
    eventually(
        lambda: view.reason("WorkloadsReady"), until=lambda seen: seen == ("False", "ApplyRefused")
    )
    said = view.condition("WorkloadsReady")["message"]
    assert "imagePullPolicy" in said
    assert view.reason("Stalled") == ("True", "ApplyRefused")


def test_missing_claim_is_told_and_its_arrival_noticed(view: View) -> None:
    view.apply(model={"uri": "pvc://weights/m"})
    eventually(
        lambda: view.reason("ModelReady"),
        until=lambda seen: seen == ("False", "PersistentVolumeClaimNotFound"),
    )
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weights"},
        "spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    view.kubectl("create", "-f", "-", stdin=json.dumps(claim))
    eventually(
        lambda: view.reason("ModelReady"),
        until=lambda seen: seen == ("True", "ClaimFound"),
        within_s=30,
    )


def test_quota_is_told(view: View) -> None:
    view.kubectl("create", "quota", "none", "--hard=pods=0")
    eventually(lambda: view.get("quota/none").get("status", {}).get("hard"))
    view.apply()
    eventually(
        lambda: view.reason("WorkloadsReady"), until=lambda seen: seen == ("False", "QuotaExceeded")
    )


def test_change_of_ready_is_told_as_an_event(view: View) -> None:
    view.apply()
    eventually(lambda: view.condition("Ready"))
    view.patch("llmsvc/svc", {"spec": {"suspend": True}})
    eventually(
        lambda: [e for e in view.list("events") if e["involvedObject"]["kind"] == "LLMService"],
        until=lambda events: any(e["reason"] == "Suspended" for e in events),
    )


def test_operator_is_alive(operator: LiveOperator) -> None:
    assert operator.ended() is None
