"""A replica of several nodes: what is made, what each pod runs, and how the groups are judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.manifests import NOW, SETTINGS, pod, service
from llmservice_api import names
from llmservice_operator.capabilities import Capabilities
from llmservice_operator.desired import desired
from llmservice_operator.kinds import LEADER_WORKER_SET
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed, Polled
from llmservice_operator.predictor_reports import worst_report
from llmservice_operator.status import Status, status

SERVED = Capabilities(frozenset({(LEADER_WORKER_SET.api_version, LEADER_WORKER_SET.kind)}))
TWO_NODES = {"tensor": 4, "pipeline": 2, "nodes": 2}
LEADERS = {names.LABEL_NAME: "svc", names.LABEL_WORKER_INDEX: "0"}


def made_of(**spec: Any) -> dict[str, Manifest]:
    spec.setdefault("parallelism", TWO_NODES)
    manifests = desired(service(**spec), SETTINGS, SERVED)
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in manifests}


def templates(**spec: Any) -> tuple[Manifest, Manifest]:
    template = made_of(**spec)["LeaderWorkerSet/svc-nodes"]["spec"]["leaderWorkerTemplate"]
    return template["leaderTemplate"], template["workerTemplate"]


def main_of(template: Manifest) -> Manifest:
    return next(one for one in template["spec"]["containers"] if one["name"] == "main")


def test_a_replica_is_one_group_of_as_many_pods_as_nodes() -> None:
    made = made_of(replicas=3, rolloutStrategy={"maxSurge": 0, "maxUnavailable": 1})
    assert "Deployment/svc" not in made
    spec = made["LeaderWorkerSet/svc-nodes"]["spec"]
    assert spec["replicas"] == 3
    assert spec["leaderWorkerTemplate"]["size"] == 2
    assert spec["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"
    rolling = spec["rolloutStrategy"]["rollingUpdateConfiguration"]
    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}


def test_its_name_leaves_the_service_of_clients_alone() -> None:
    made = made_of()
    services = {name.partition("/")[2] for name in made if name.startswith("Service/")}
    assert "svc-nodes" not in services, "LeaderWorkerSet makes a headless Service of its own name"


def test_clients_reach_leaders_only() -> None:
    made = made_of()
    for name in ("Service/svc", "Service/svc-headless"):
        assert made[name]["spec"]["selector"] == LEADERS


def test_only_the_leader_has_the_sidecar() -> None:
    leader, worker = templates()
    assert [one["name"] for one in leader["spec"]["initContainers"]] == ["sidecar"]
    assert worker["spec"]["initContainers"] == []
    assert {volume["name"] for volume in worker["spec"]["volumes"]} == {"tmp", "shm"}


def test_each_pod_asks_for_the_gpus_of_its_node() -> None:
    for template in templates():
        assert main_of(template)["resources"]["limits"] == {"nvidia.com/gpu": "4"}


def test_the_leader_serves_and_the_workers_find_it() -> None:
    leader, worker = (main_of(template) for template in templates())
    assert words_after(leader["args"], "--node-rank") == "0"
    assert words_after(leader["args"], "--master-addr") == "$(POD_IP)"
    assert words_after(worker["args"], "--node-rank") == "$(LWS_WORKER_INDEX)"
    assert words_after(worker["args"], "--master-addr") == "$(LWS_LEADER_ADDRESS)"
    assert words_after(leader["args"], "--nnodes") == words_after(worker["args"], "--nnodes") == "2"
    assert "--headless" in worker["args"]
    assert "--headless" not in leader["args"]


def words_after(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_a_worker_serves_the_same_model_with_the_same_sizes() -> None:
    leader, worker = (main_of(template) for template in templates())
    assert worker["command"][-2:] == ["serve", words_after(leader["args"], "--model")]
    for flag in ("--tensor-parallel-size", "--pipeline-parallel-size", "--max-num-seqs"):
        assert words_after(leader["args"], flag) == words_after(worker["args"], flag)


def test_a_worker_is_asked_nothing_for_nothing_listens_there() -> None:
    _, worker = templates()
    assert not {"startupProbe", "livenessProbe", "readinessProbe"} & main_of(worker).keys()


def test_a_worker_waits_for_its_leader_to_drain() -> None:
    _, worker = templates(drainTimeoutSeconds=120)
    script = main_of(worker)["lifecycle"]["preStop"]["exec"]["command"][-1]
    compile(script, "preStop", "exec")
    assert "LWS_LEADER_ADDRESS" in script
    assert "< 130" in script
    assert worker["spec"]["terminationGracePeriodSeconds"] > 130


def test_the_users_overlay_reaches_leader_and_workers() -> None:
    overlay = {
        "spec": {
            "nodeSelector": {"fabric": "infiniband"},
            "initContainers": [{"name": "sidecar", "resources": {"limits": {"memory": "1Gi"}}}],
            "containers": [{"name": "main", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}],
        }
    }
    leader, worker = templates(template=overlay)
    for template in (leader, worker):
        assert template["spec"]["nodeSelector"] == {"fabric": "infiniband"}
        assert {"name": "NCCL_DEBUG", "value": "INFO"} in main_of(template)["env"]
    assert worker["spec"]["initContainers"] == []


def test_slots_are_those_of_all_data_parallel_ranks() -> None:
    spec = {"parallelism": {"data": 4, "nodes": 2}, "engine": {"maxNumSeqs": 16}}
    static = made_of(**spec)["ConfigMap/svc-config"]["data"][names.STATIC_CONFIG_FILE]
    assert '"slots":64' in static.replace(" ", "")


@pytest.mark.parametrize(
    ("given", "pods"), [(1, 1), ("50%", "25%"), ("33%", "16%")], ids=["a count", "half", "a third"]
)
def test_a_budget_of_replicas_is_one_of_their_pods(given: int | str, pods: int | str) -> None:
    budget = made_of(disruptionBudget={"maxUnavailable": given})["PodDisruptionBudget/svc"]
    assert budget["spec"]["maxUnavailable"] == pods
    assert budget["spec"]["selector"]["matchLabels"] == {names.LABEL_NAME: "svc"}


def judged(observed: Observed, **spec: Any) -> Status:
    wanted = service(parallelism={"nodes": 2, "pipeline": 2}, replicas=2, **spec)
    return status(wanted, observed, before=(), now=NOW)


def told(made: Status, kind: str) -> str:
    condition = next(condition for condition in made.conditions if condition.type == kind)
    return f"{condition.status}/{condition.reason}"


def groups(*, ready: int = 0, updating: str = "False") -> Observed:
    """A LeaderWorkerSet of two groups of two pods."""
    live: Manifest = {
        "apiVersion": LEADER_WORKER_SET.api_version,
        "kind": LEADER_WORKER_SET.kind,
        "metadata": {"name": "svc-nodes", "namespace": "ns", "generation": 5},
        "spec": {"replicas": 2},
        "status": {
            "replicas": 2,
            "readyReplicas": ready,
            "updatedReplicas": 2,
            "conditions": [{"type": "UpdateInProgress", "status": updating}],
        },
    }
    return Observed(workload=live, capabilities=SERVED)


@pytest.mark.parametrize(
    ("observed", "verdict"),
    [
        (groups(ready=2), "True/AllReplicasReady"),
        (groups(ready=2, updating="True"), "True/MinimumReplicasAvailable"),
        (groups(ready=1), "False/ReplicasStarting"),
        (replace(groups(), workload=None), "False/WorkloadMissing"),
    ],
    ids=["all groups", "a new template", "one group", "not made yet"],
)
def test_groups_are_judged_by_their_own_counts(observed: Observed, verdict: str) -> None:
    made = judged(observed)
    assert told(made, "WorkloadsReady") == verdict
    assert made.fields["selector"] == ",".join(f"{key}={value}" for key, value in LEADERS.items())


def test_without_leader_worker_set_it_says_what_to_install() -> None:
    made = judged(Observed())
    assert told(made, "WorkloadsReady") == "False/LeaderWorkerSetMissing"
    assert told(made, "Stalled") == "True/LeaderWorkerSetMissing"
    (message,) = {one.message for one in made.conditions if one.type == "WorkloadsReady"}
    assert "leaderworkersets.leaderworkerset.x-k8s.io" in message
    assert "spec.parallelism.nodes" in message


def test_a_ready_worker_is_not_taken_for_a_replica_that_is_silent() -> None:
    worker = pod("svc-nodes-0-1", ready=True)
    worker["metadata"]["labels"][names.LABEL_WORKER_INDEX] = "1"
    found = worst_report(Observed(pods=(worker,), polled={"uid-svc-1": Polled(error="no")}))
    assert found.absence.reason == worst_report(Observed()).absence.reason
