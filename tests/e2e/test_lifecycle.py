"""What happens to a service in its life, on a real node, with clients that never stop asking.

The tests share one LLMService and run in the order of this file. The load runs from the first to
`test_no_request_was_lost_in_all_of_this`; what ends an engine on purpose comes after it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from e2e.chart import RELEASE, Release
from e2e.kube import Cluster, Kube
from e2e.load import Load
from e2e.service import SETTLED_WITHIN_S, LiveService, cycle
from llmservice_api import __version__, names

SERVICE: Final = "cycle"
REPLICAS: Final = 2
DELETIONS: Final = 5
LEAST_REQUESTS: Final = 2_000
MOST_REFUSED: Final = 0.01  # of all requests
SLOW_START_S: Final = 150  # longer than a liveness probe has patience
_IMAGE: Final = f"{names.IMAGE_REPOSITORY}/sidecar:{__version__}"


@pytest.fixture(scope="module")
def slow(kube: Kube, operator: str, namespace: str) -> Generator[LiveService]:
    """A service whose engine takes minutes to load its model."""
    service = LiveService(kube, namespace, "slow")
    entry = "python -m llmservice_lab.engine.serve --executor=latency"
    # As the first process of its container a shell ends at a signal only if it is told to.
    wait = f"trap exit TERM; sleep {SLOW_START_S} & wait $!"
    command = ["sh", "-c", f'{wait}; exec {entry} "$@"', "engine"]
    overlay = {"containers": [{"name": names.CONTAINER_ENGINE, "command": command}]}
    service.apply(cycle("slow", template={"spec": overlay}))
    yield service
    service.kubectl("delete", service.reference)


@pytest.fixture(scope="module")
def service(kube: Kube, operator: str, namespace: str, slow: LiveService) -> Generator[LiveService]:
    service = LiveService(kube, namespace, SERVICE)
    service.apply(cycle(SERVICE))
    service.wait_settled(1)
    yield service
    service.kubectl("delete", service.reference, "--ignore-not-found")


@pytest.fixture(scope="module")
def load(kube: Kube, namespace: str, service: LiveService) -> Generator[Load]:
    load = Load(kube, namespace)
    load.start(SERVICE, image=_IMAGE)
    yield load
    load.remove()


def test_kubectl_scale_adds_and_removes_replicas(service: LiveService, load: Load) -> None:
    for replicas in (3, 1, REPLICAS):
        service.kubectl("scale", service.reference, f"--replicas={replicas}")
        service.wait_settled(replicas)
        assert service.get()["status"]["replicas"] == replicas


def restart(service: LiveService, cluster: Cluster) -> None:
    now = datetime.now(UTC).isoformat()
    key = names.ANNOTATION_RESTARTED_AT
    service.kubectl("annotate", service.reference, f"{key}={now}", "--overwrite")


def change_model(service: LiveService, cluster: Cluster) -> None:
    service.patch({"model": {"uri": "pvc://models/other"}})


def change_image(service: LiveService, cluster: Cluster) -> None:
    service.patch({"engine": {"image": cluster.other_engine}})


def change_engine(service: LiveService, cluster: Cluster) -> None:
    service.patch({"engine": {"args": ["--max-logprobs=5"]}})


def change_sidecar(service: LiveService, cluster: Cluster) -> None:
    service.patch({"queue": {"fairness": {"tenantHeader": "x-team"}}})


ROLLOUTS: Final = (restart, change_model, change_image, change_engine, change_sidecar)


@pytest.mark.parametrize("change", ROLLOUTS, ids=lambda change: change.__name__)
def test_rollout_replaces_every_pod_and_never_serves_with_fewer(
    service: LiveService,
    load: Load,
    cluster: Cluster,
    change: Callable[[LiveService, Cluster], None],
) -> None:
    before = service.uids()
    with service.fewest_available() as fewest:
        change(service, cluster)
        service.wait_settled(REPLICAS, without=before)
    assert fewest == [REPLICAS]
    assert service.condition("Ready")["status"] == "True"


def test_pods_run_what_the_rollouts_asked_for(service: LiveService, cluster: Cluster) -> None:
    for pod in service.pods():
        (engine,) = pod["spec"]["containers"]
        assert engine["image"] == cluster.other_engine
        assert "/mnt/models/other" in engine["args"]
        assert names.ANNOTATION_RESTARTED_AT in pod["metadata"]["annotations"]
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_change_of_the_queue_reaches_running_sidecars_and_restarts_nothing(
    kube: Kube, service: LiveService, load: Load
) -> None:
    before = service.uids()
    service.patch({"queue": {"policy": "FCFS", "tailWeightPercent": 250}})
    generation: int = service.get()["metadata"]["generation"]
    pods = [pod["metadata"]["name"] for pod in service.pods()]
    # A kubelet renews mounted ConfigMaps about once a minute.
    kube.wait_until(
        "every sidecar has applied the new configuration",
        lambda: all(service.report(pod).generation_applied == generation for pod in pods),
        timeout_s=SETTLED_WITHIN_S,
    )
    assert [service.report(pod).queue.order for pod in pods] == ["FCFS"] * REPLICAS
    assert service.uids() == before


def test_deleted_pods_are_replaced(service: LiveService, load: Load) -> None:
    for _ in range(DELETIONS):
        before = service.uids()
        victim = service.pods()[0]["metadata"]
        service.kubectl("delete", f"pod/{victim['name']}", "--wait=false")
        service.wait_settled(REPLICAS, without=frozenset({victim["uid"]}))
        assert service.uids() > before - {victim["uid"]}


def test_node_drain_takes_one_replica_at_a_time(
    kube: Kube, service: LiveService, load: Load
) -> None:
    before = service.uids()
    (node,) = {pod["spec"]["nodeName"] for pod in service.pods()}
    chosen = f"--pod-selector={names.LABEL_NAME}={SERVICE}"
    drain = ["drain", node, chosen, "--delete-emptydir-data", "--timeout=240s"]
    with (
        service.fewest_available() as fewest,
        subprocess.Popen(kube.command(*drain), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True) as process,
    ):  # fmt: skip
        try:
            kube.wait_until(
                "one pod has been evicted and its replacement waits for a node",
                lambda: len(service.uids() - before) == 1,
                timeout_s=60,
            )
            # The budget holds the other one back for as long as nothing has taken over.
            assert len(service.uids() & before) == 1
            kube.run("uncordon", node)
            said, _ = process.communicate(timeout=SETTLED_WITHIN_S)
        finally:
            kube.run("uncordon", node)
        assert process.returncode == 0, said
        assert "would violate the pod's disruption budget" in said
        service.wait_settled(REPLICAS, without=before)
    assert fewest[0] >= REPLICAS - 1


def test_changes_of_the_operator_restart_no_pod(service: LiveService, release: Release) -> None:
    before = service.uids()
    first = release.revision
    release.upgrade({"podAnnotations": {"example.com/changed": "yes"}})
    assert release.revision == first + 1
    release.rollback(first)
    operator = ("deployment", RELEASE, "-n", release.namespace)
    annotations = service.kube.get(*operator)["spec"]["template"]["metadata"].get("annotations")
    assert "example.com/changed" not in (annotations or {})
    chosen = ("-l", f"app.kubernetes.io/instance={RELEASE}", "-n", release.namespace)
    service.kube.run("delete", "pod", *chosen, "--grace-period=0", "--force")
    service.kube.run("rollout", "status", "/".join(operator[:2]), *operator[2:], "--timeout=120s")
    # It works again: a new field is acted on.
    service.patch({"queue": {"tailWeightPercent": 300}})
    service.wait_settled(REPLICAS)
    assert service.uids() == before


def test_no_request_was_lost_in_all_of_this(load: Load) -> None:
    load.wait_for(LEAST_REQUESTS)
    outcome = load.end()
    print(f"\nload: {json.dumps(outcome.counts)}\n" + "\n".join(outcome.examples))
    failed = {what: outcome[what] for what in ("lost", "truncated", "given up")}
    assert failed == {"lost": 0, "truncated": 0, "given up": 0}, "\n".join(outcome.examples)
    assert outcome["completed"] == outcome["requests"] >= LEAST_REQUESTS
    for door in ("http", "grpc", "grpc-headless"):
        assert outcome[f"completed {door}"] == outcome[f"requests {door}"] > LEAST_REQUESTS / 10
    assert outcome["refusals"] <= MOST_REFUSED * outcome["requests"], "\n".join(outcome.examples)


def test_engine_that_ends_is_restarted_in_its_pod(kube: Kube, service: LiveService) -> None:
    before = service.uids()
    pod = service.pods()[0]["metadata"]["name"]
    end = "import os, signal; os.kill(1, signal.SIGTERM)"
    service.kubectl("exec", pod, "-c", names.CONTAINER_ENGINE, "--", "python", "-c", end)

    def engine() -> dict[str, Any]:
        found = json.loads(service.kubectl("get", f"pod/{pod}", "-o", "json"))
        return found["status"]["containerStatuses"][0]

    kube.wait_until(
        "the engine has been restarted", lambda: engine()["restartCount"] == 1, timeout_s=90
    )
    service.wait_settled(REPLICAS)
    assert service.uids() == before
    assert not service.report(pod).draining


def test_suspending_ends_all_pods_and_resuming_starts_them(service: LiveService) -> None:
    before = service.uids()
    service.patch({"suspend": True})
    service.wait_settled(0)
    assert service.condition("Ready")["reason"] == "Suspended"
    service.patch({"suspend": False})
    service.wait_settled(REPLICAS, without=before)
    assert service.condition("Ready")["status"] == "True"


def test_model_that_loads_for_long_is_not_restarted(slow: LiveService) -> None:
    slow.wait_settled(1)
    (pod,) = slow.pods()
    statuses = pod["status"]["initContainerStatuses"] + pod["status"]["containerStatuses"]
    assert [status["restartCount"] for status in statuses] == [0, 0]
    started = datetime.fromisoformat(pod["status"]["startTime"])
    ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    loaded = datetime.fromisoformat(ready["lastTransitionTime"]) - started
    assert loaded.total_seconds() >= SLOW_START_S
