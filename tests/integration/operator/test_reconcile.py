"""The operator as a process on a real API server with real controllers; no pod ever runs there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.live_operator import View, eventually

pytestmark = pytest.mark.usefixtures("operator")

CONDITIONS = {
    "Ready",
    "SpecAccepted",
    "ModelReady",
    "WorkloadsReady",
    "PredictorReady",
    "PredictorCalibrated",
    "ScalingReady",
    "Reconciling",
    "Stalled",
}
MANAGER = "llmservice-operator"


def managers(manifest: dict[str, Any]) -> set[tuple[str, str]]:
    """Who wrote to an object, and how."""
    return {
        (entry["manager"], entry["operation"]) for entry in manifest["metadata"]["managedFields"]
    }


def test_service_gets_all_its_objects_and_conditions(view: View) -> None:
    view.apply()
    eventually(view.exist)
    live = eventually(lambda: view.get("llmsvc/svc"), until=lambda seen: bool(seen.get("status")))
    assert {condition["type"] for condition in live["status"]["conditions"]} == CONDITIONS
    assert live["status"]["observedGeneration"] == live["metadata"]["generation"]
    assert live["status"]["url"] == f"http://svc.{view.namespace}.svc:8000"
    assert view.reason("SpecAccepted") == ("True", "Accepted")


def test_objects_are_applied_under_the_operators_name(view: View) -> None:
    view.apply()
    eventually(view.exist)
    for target in ("deploy/svc", "svc/svc", "cm/svc-config", "pdb/svc", "sa/svc"):
        live = view.get(target, "--show-managed-fields")
        assert (MANAGER, "Apply") in managers(live)
        (owner,) = live["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("LLMService", "svc", True)


def test_operator_writes_nothing_of_a_service_but_its_status(view: View) -> None:
    view.apply()
    eventually(lambda: view.condition("Ready"))
    live = view.get("llmsvc/svc", "--show-managed-fields")
    ours = [e for e in live["metadata"]["managedFields"] if e["manager"] != "user"]
    assert [(e["manager"], e["subresource"]) for e in ours] == [(MANAGER, "status")]
    assert "finalizers" not in live["metadata"]
    assert "annotations" not in live["metadata"]


@pytest.mark.parametrize("target", ["svc/svc", "deploy/svc", "cm/svc-config", "pdb/svc", "sa/svc"])
def test_deleted_object_comes_back(view: View, target: str) -> None:
    view.apply()
    eventually(view.exist)
    before = view.get(target)["metadata"]["uid"]
    view.kubectl("delete", target)
    eventually(
        lambda: view.get(target),
        until=lambda seen: bool(seen) and seen["metadata"]["uid"] != before,
    )


def test_changed_field_is_put_back_and_a_foreign_one_is_left(view: View) -> None:
    view.apply()
    eventually(view.exist)
    strange = {"metadata": {"annotations": {"team": "a"}}, "spec": {"progressDeadlineSeconds": 7}}
    wanted = view.get("deploy/svc")["spec"]["progressDeadlineSeconds"]
    view.patch("deploy/svc", strange)
    live = eventually(
        lambda: view.get("deploy/svc"),
        until=lambda seen: seen["spec"]["progressDeadlineSeconds"] == wanted,
    )
    assert live["metadata"]["annotations"]["team"] == "a"


def test_changed_configuration_is_put_back(view: View) -> None:
    view.apply()
    eventually(view.exist)
    wanted = view.get("cm/svc-config")["data"]
    view.patch("cm/svc-config", {"data": {"live.json": '{"policy": "FCFS"}'}})
    eventually(lambda: view.get("cm/svc-config")["data"], until=lambda data: data == wanted)


def test_owned_object_that_is_not_wanted_is_deleted(view: View) -> None:
    view.apply()
    eventually(view.exist)
    model = view.get("cm/svc-config")
    stale = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "svc-old",
            "labels": model["metadata"]["labels"],
            "ownerReferences": model["metadata"]["ownerReferences"],
        },
    }
    foreign = {**stale, "metadata": {"name": "svc-other", "labels": model["metadata"]["labels"]}}
    for manifest in (foreign, stale):
        view.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    eventually(lambda: view.get("cm/svc-old"), until=lambda seen: not seen)
    assert view.get("cm/svc-other"), "an object without our owner reference is not ours"


def test_scale_reaches_the_deployment(view: View) -> None:
    view.apply()
    eventually(view.exist)
    view.kubectl("scale", "llmsvc/svc", "--replicas=3")
    eventually(lambda: view.get("deploy/svc")["spec"]["replicas"], until=lambda seen: seen == 3)
    eventually(lambda: view.get("llmsvc/svc")["status"]["replicas"], until=lambda seen: seen == 3)


def test_suspended_service_runs_no_pod_and_keeps_its_addresses(view: View) -> None:
    view.apply(replicas=2)
    eventually(lambda: view.list("pods"), until=lambda pods: len(pods) == 2)
    view.patch("llmsvc/svc", {"spec": {"suspend": True}})
    eventually(lambda: view.reason("Ready"), until=lambda seen: seen == ("False", "Suspended"))
    eventually(lambda: view.get("deploy/svc")["spec"]["replicas"], until=lambda seen: seen == 0)
    assert view.get("svc/svc")
    view.patch("llmsvc/svc", {"spec": {"suspend": False}})
    eventually(lambda: view.get("deploy/svc")["spec"]["replicas"], until=lambda seen: seen == 2)


def test_order_of_the_queue_changes_without_a_rollout(view: View) -> None:
    view.apply()
    eventually(view.exist)
    generation = view.get("deploy/svc")["metadata"]["generation"]
    view.patch("llmsvc/svc", {"spec": {"queue": {"policy": "FCFS", "tailWeightPercent": 50}}})
    live = eventually(
        lambda: json.loads(view.get("cm/svc-config")["data"]["live.json"]),
        until=lambda config: config.get("policy") == "FCFS",
    )
    assert live["tail_weight"] == 0.5
    seen = eventually(
        lambda: view.get("llmsvc/svc"),
        until=lambda seen: seen["status"]["observedGeneration"] == seen["metadata"]["generation"],
    )
    assert live["generation"] == seen["metadata"]["generation"]
    assert view.get("deploy/svc")["metadata"]["generation"] == generation


def test_change_of_the_engine_makes_a_rollout(view: View) -> None:
    view.apply()
    eventually(view.exist)
    before = view.get("deploy/svc")["spec"]["template"]
    view.patch("llmsvc/svc", {"spec": {"engine": {"maxNumSeqs": 8}}})
    after = eventually(
        lambda: view.get("deploy/svc")["spec"]["template"], until=lambda seen: seen != before
    )
    hashes = {t["metadata"]["annotations"]["llmservice.dev/static-config-hash"]
              for t in (before, after)}  # fmt: skip
    assert len(hashes) == 2


def test_replicas_stay_when_scaling_takes_over(view: View) -> None:
    view.apply(replicas=3)
    eventually(view.exist)
    view.kubectl(
        "patch", "llmsvc/svc", "--type=json",
        "-p", json.dumps([
            {"op": "remove", "path": "/spec/replicas"},
            {"op": "add", "path": "/spec/scaling", "value": {"maxReplicas": 5}},
        ]),
    )  # fmt: skip
    eventually(lambda: view.reason("ScalingReady"), until=lambda seen: seen[0] == "False")
    assert view.get("deploy/svc")["spec"]["replicas"] == 3
    view.kubectl("scale", "deploy/svc", "--replicas=2")
    view.patch("llmsvc/svc", {"spec": {"engine": {"maxNumSeqs": 8}}})
    eventually(
        lambda: view.get("llmsvc/svc")["status"]["observedGeneration"],
        until=lambda seen: seen == view.get("llmsvc/svc")["metadata"]["generation"],
    )
    assert view.get("deploy/svc")["spec"]["replicas"] == 2, "an autoscaler's number is not ours"


def test_deletion_leaves_nothing(view: View) -> None:
    view.apply(replicas=2)
    eventually(view.exist)
    eventually(lambda: view.list("pods"), until=lambda pods: len(pods) == 2)
    view.kubectl("delete", "llmsvc/svc", "--timeout=20s")
    label = "llmservice.dev/name=svc"
    eventually(
        lambda: view.list("deploy,rs,pods,svc,cm,sa,pdb", "-l", label),
        until=lambda left: not left,
        within_s=40,
    )


def test_service_of_the_same_name_can_be_made_anew_at_once(view: View) -> None:
    view.apply()
    eventually(view.exist)
    view.kubectl("delete", "llmsvc/svc")
    view.apply()
    uid = view.get("llmsvc/svc")["metadata"]["uid"]

    def owners() -> set[str]:
        found = view.list("deploy,svc,cm,sa,pdb", "-l", "llmservice.dev/name=svc")
        return {item["metadata"]["ownerReferences"][0]["uid"] for item in found}

    eventually(lambda: view.exist() and owners() == {uid}, within_s=40)


def test_foreign_object_of_a_needed_name_is_not_touched(view: View) -> None:
    view.kubectl("create", "configmap", "svc-config", "--from-literal=mine=yes")
    view.apply()
    eventually(lambda: view.reason("Stalled"), until=lambda seen: seen == ("True", "NameConflict"))
    assert "svc-config" in view.condition("WorkloadsReady")["message"]
    assert view.get("cm/svc-config")["data"] == {"mine": "yes"}
    view.kubectl("delete", "configmap", "svc-config")
    eventually(view.exist)
    eventually(lambda: view.reason("Stalled"), until=lambda seen: seen[0] == "False")
