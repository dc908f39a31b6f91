"""Each way a service can be, and the words `status` has for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fakes.manifests import NOW, deployment, pod, service, waiting
from llmservice_operator.conditions import Condition, Finding, parse_conditions
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed
from llmservice_operator.status import Status, refused_status, status, worth_writing

ALL = {
    "Ready", "SpecAccepted", "ModelReady", "WorkloadsReady", "PredictorReady",
    "PredictorCalibrated", "ScalingReady", "Reconciling", "Stalled",
}  # fmt: skip
RUNNING: Manifest = {"state": {"running": {}}, "started": False, "ready": False, "restartCount": 0}
NO_GPU = {"status": "False", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}


def judged(observed: Observed, **spec: Any) -> Status:
    return status(service(**spec), observed, before=(), now=NOW)


def of(made: Status, kind: str) -> Condition:
    return next(condition for condition in made.conditions if condition.type == kind)


def told(made: Status, kind: str) -> str:
    condition = of(made, kind)
    return f"{condition.status}/{condition.reason}"


def crashed(**ended: Any) -> Manifest:
    terminated = {"exitCode": 1, "reason": "Error"} | ended
    return waiting("CrashLoopBackOff") | {
        "lastState": {"terminated": terminated}, "restartCount": 3, "ready": False,
    }  # fmt: skip


POD_TROUBLE = [
    pytest.param(pod(engine=waiting("ImagePullBackOff")), "ImagePullFailed", True, id="pull"),
    pytest.param(pod(sidecar=waiting("ErrImagePull")), "ImagePullFailed", True, id="sidecar pull"),
    pytest.param(
        pod(engine=waiting("CreateContainerConfigError", 'secret "x" not found')),
        "ContainerConfigError",
        True,
        id="a missing secret",
    ),
    pytest.param(pod(engine=crashed()), "EngineCrashLooping", True, id="engine crash loop"),
    pytest.param(pod(sidecar=crashed()), "SidecarCrashLooping", True, id="sidecar crash loop"),
    pytest.param(
        pod(engine=crashed(reason="OOMKilled")), "EngineOutOfMemory", True, id="out of memory"
    ),
    pytest.param(
        pod(engine=RUNNING | {"restartCount": 2, "lastState": {"terminated": {"exitCode": 1}}}),
        "EngineCrashLooping",
        True,
        id="running again between two crashes",
    ),
    pytest.param(pod(scheduled=NO_GPU), "InsufficientGPUs", False, id="no GPU"),
    pytest.param(
        pod(scheduled={"status": "False", "message": "0/1 nodes: Insufficient cpu"}),
        "Unschedulable",
        False,
        id="no node fits",
    ),
    pytest.param(
        pod(scheduled={"status": "False", "message": 'persistentvolumeclaim "m" not found'}),
        "PersistentVolumeClaimNotFound",
        True,
        id="the overlay's claim is missing",
    ),
    pytest.param(pod(engine=RUNNING), "EngineLoading", False, id="the engine loads"),
    pytest.param(
        pod(engine=RUNNING | {"restartCount": 1, "lastState": {"terminated": {"exitCode": 1}}}),
        "EngineLoading",
        False,
        id="one restart is an accident",
    ),
    pytest.param(
        pod(engine=waiting("PodInitializing")), "ContainersStarting", False, id="containers start"
    ),
    pytest.param(pod(), "PodPending", False, id="not scheduled yet"),
]


@pytest.mark.parametrize(("trouble", "reason", "stalls"), POD_TROUBLE)
def test_each_trouble_of_a_pod_has_its_own_reason(
    trouble: Manifest, reason: str, *, stalls: bool
) -> None:
    made = judged(Observed(workload=deployment(), pods=(trouble,)))
    assert told(made, "WorkloadsReady") == told(made, "Ready") == f"False/{reason}"
    assert of(made, "Stalled").status == ("True" if stalls else "False")
    assert of(made, "Reconciling").status == ("False" if stalls else "True")
    assert "svc-1" in of(made, "Ready").message


def test_reasons_of_pod_troubles_are_distinct() -> None:
    assert len({str(case.values[1]) for case in POD_TROUBLE}) >= 10


def test_a_crash_shows_the_last_words_and_the_command_to_see_more() -> None:
    loop = crashed(exitCode=137, message="loading\nValueError: no such model\n")
    message = of(judged(Observed(workload=deployment(), pods=(pod(engine=loop),))), "Ready").message
    assert "exit code 137: ValueError: no such model" in message
    assert "kubectl logs svc-1 -c main --previous" in message


def test_enough_ready_replicas_make_a_ready_service() -> None:
    made = judged(Observed(workload=deployment(ready=1), pods=(pod(ready=True),)))
    assert told(made, "Ready") == "True/Ready"
    assert told(made, "WorkloadsReady") == "True/AllReplicasReady"
    assert told(made, "Reconciling") == "False/Settled"
    assert told(made, "Stalled") == "False/NotStalled"
    assert made.settled
    assert made.fields["readyReplicas"] == 1
    assert made.fields["model"] == {"phase": "Ready"}


def test_a_rollout_that_waits_for_a_gpu_names_the_field_and_stays_ready() -> None:
    live = deployment(ready=1, updated=1, replicas=2)
    made = judged(Observed(workload=live, pods=(pod(ready=True), pod("svc-2", scheduled=NO_GPU))))
    assert told(made, "Ready") == "True/Ready"
    assert told(made, "Stalled") == "True/InsufficientGPUsForSurge"
    assert "spec.rolloutStrategy" in of(made, "Stalled").message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "x" is forbidden: exceeded quota: gpus', "QuotaExceeded"),
        ('pods "x" is forbidden: violates PodSecurity "restricted"', "PodsForbidden"),
    ],
)
def test_refused_pods_are_told_from_each_other(message: str, reason: str) -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": message}
    made = judged(Observed(workload=deployment(conditions=[refused])))
    assert told(made, "Ready") == f"False/{reason}"
    assert of(made, "Stalled").status == "True"


def test_a_rollout_past_its_deadline_is_stalled() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    live = deployment(conditions=[late])
    made = judged(Observed(workload=live, pods=(pod(engine=RUNNING),)))
    assert told(made, "Stalled") == "True/ProgressDeadlineExceeded"


def test_a_service_that_is_being_made_says_so() -> None:
    made = judged(Observed())
    assert told(made, "WorkloadsReady") == "False/WorkloadMissing"
    assert told(made, "Reconciling") == "True/WorkloadMissing"


def test_suspend_is_not_ready_and_nothing_is_wrong() -> None:
    made = judged(Observed(workload=deployment(wanted=0)), suspend=True)
    assert told(made, "Ready") == "False/Suspended"
    assert told(made, "Stalled") == "False/NotStalled"
    assert told(made, "Reconciling") == "False/Settled"


def test_zero_by_scaling_is_ready_and_zero_by_hand_is_not() -> None:
    zero = Observed(workload=deployment(wanted=0))
    assert told(judged(zero, scaling={"maxReplicas": 2}), "Ready") == "True/ScaledToZero"
    assert told(judged(zero, replicas=0), "Ready") == "False/NoReplicas"


@pytest.mark.parametrize(
    ("uri", "claim", "verdict"),
    [
        ("gs://bucket/name", None, "False/UnsupportedScheme"),
        ("file:///models/m", None, "True/InContainer"),
        ("pvc://store/m", None, "False/PersistentVolumeClaimNotFound"),
        ("pvc://store/m", {"status": {"phase": "Lost"}}, "False/PersistentVolumeClaimLost"),
        ("pvc://store/m", {"status": {"phase": "Pending"}}, "True/ClaimFound"),
    ],
)
def test_the_models_source_is_judged(uri: str, claim: Manifest | None, verdict: str) -> None:
    made = judged(Observed(claims={"store": claim} if claim else {}), model={"uri": uri})
    assert told(made, "ModelReady") == verdict
    if verdict.startswith("False"):
        assert told(made, "Ready") == verdict
        assert of(made, "Stalled").status == "True"


def test_the_autoscaler_never_gates_ready() -> None:
    live = deployment(ready=1)
    made = judged(Observed(workload=live, pods=(pod(ready=True),)), scaling={"maxReplicas": 2})
    assert told(made, "ScalingReady") == "Unknown/AutoscalerMissing"
    assert told(made, "Ready") == "True/Ready"


def test_a_refused_object_is_the_reason() -> None:
    made = judged(Observed(problem=Finding("NameConflict", "Service svc exists")))
    assert told(made, "Ready") == told(made, "Stalled").replace("True", "False")
    assert of(made, "Ready").reason == "NameConflict"


def test_a_spec_that_cannot_be_read_judges_nothing_else() -> None:
    made = refused_status(
        Finding("InvalidSpec", "spec.engine: bad"),
        generation=4,
        fields={"url": "http://svc", "observedGeneration": 3},
        before=(),
        now=NOW,
    )
    assert made.fields == {"url": "http://svc", "observedGeneration": 4}
    assert {condition.type for condition in made.conditions} == ALL
    assert told(made, "Ready") == told(made, "SpecAccepted") == "False/InvalidSpec"
    assert told(made, "WorkloadsReady") == "Unknown/SpecNotAccepted"


def test_a_condition_is_worth_a_write() -> None:
    before = judged(Observed(workload=deployment())).manifest()
    assert worth_writing(before, judged(Observed(workload=deployment(ready=1))).manifest())


def test_all_conditions_are_there_whatever_happens() -> None:
    for observed in (Observed(), Observed(problem=Finding("ApplyRefused", ""))):
        assert {condition.type for condition in judged(observed).conditions} == ALL


def test_the_address_and_selector_are_told() -> None:
    fields = judged(Observed()).fields
    assert fields["url"] == "http://svc.ns.svc:8000"
    assert fields["selector"] == "llmservice.dev/name=svc"
    assert fields["addresses"][1] == {"name": "grpc", "url": "svc.ns.svc:50051"}


def test_judging_again_later_changes_nothing() -> None:
    observed = Observed(workload=deployment(), pods=(pod(engine=RUNNING),))
    first = judged(observed)
    before = parse_conditions(first.manifest()["conditions"])
    again = status(service(), observed, before=before, now=NOW + timedelta(hours=1))
    assert again == first
