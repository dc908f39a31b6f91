"""What is said of a model that is on its way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from fakes.manifests import NOW, deployment, service
from fakes.manifests import pod as plain_pod
from fakes.reports import report
from llmservice_api.status_report import ModelReport
from llmservice_operator.desired.model_fetch import fetch_containers
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed, Polled
from llmservice_operator.status import Status, status, worth_writing

SERVICE = service(model={"uri": "hf://org/model"})
FAILED = {"terminated": {"exitCode": 4, "message": "log line\nhf://org/model: no such model\n"}}
RUNNING: Manifest = {"running": {}}


def pod(
    name: str = "svc-1", *, ready: bool = False, of: str = "hf://org/model", **fetch: Any
) -> Manifest:
    """A pod whose download is as told."""
    made = plain_pod(name, ready=ready)
    containers = fetch_containers(service(model={"uri": of}), image="sidecar:1")
    made["spec"] = {"initContainers": containers}
    made["status"]["initContainerStatuses"] = [{"name": "fetch", "image": "sidecar:1", **fetch}]
    return made


def polled(*pods: Manifest, **model: Any) -> dict[str, Polled]:
    told = msgspec.structs.replace(report(), model=ModelReport(**model))
    return {each["metadata"]["uid"]: Polled(report=told) for each in pods}


def judged(*pods: Manifest, told: dict[str, Polled] | None = None, ready: int = 0) -> Status:
    observed = Observed(workload=deployment(ready=ready), pods=pods, polled=told or {})
    return status(SERVICE, observed, before=(), now=NOW)


def condition(made: Status, kind: str = "ModelReady") -> tuple[str, str, str]:
    found = next(each for each in made.conditions if each.type == kind)
    return found.status.value, found.reason, found.message


def test_the_share_is_told_while_it_downloads() -> None:
    loading = pod(state=RUNNING)
    told = polled(
        loading, phase="Downloading", bytes=7_700_000_000, total_bytes=16_000_000_000, revision="c"
    )
    made = judged(loading, told=told)
    assert condition(made) == ("False", "Downloading", "pod svc-1 has 45 % of 16.0 GB")
    assert condition(made, "Ready")[:2] == ("False", "Downloading")
    assert condition(made, "Stalled")[0] == "False"
    assert made.fields["model"] == {
        "phase": "Downloading",
        "bytes": 7_700_000_000,
        "totalBytes": 16_000_000_000,
        "revision": "c",
    }


def test_a_failure_is_told_with_the_programs_last_words_and_waits_for_a_person() -> None:
    made = judged(pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=FAILED))
    assert condition(made)[:2] == ("False", "DownloadFailed")
    assert "hf://org/model: no such model" in condition(made)[2]
    assert condition(made, "Stalled")[:2] == ("True", "DownloadFailed")
    assert made.fields["model"]["phase"] == "Failed"


def test_the_first_failure_counts_and_a_second_attempt_only_when_it_moves() -> None:
    assert condition(judged(pod(state=FAILED)))[1] == "DownloadFailed"
    again = pod(state=RUNNING, lastState=FAILED, restartCount=1)
    assert condition(judged(again))[1] == "DownloadFailed"
    told = polled(again, phase="Downloading", bytes=1, total_bytes=10)
    made = judged(again, told=told)
    assert condition(made)[1] == "Downloading"
    assert condition(made, "Stalled")[0] == "False"


def test_a_download_is_done_before_the_engine_is_ready() -> None:
    made = judged(pod(state={"terminated": {"exitCode": 0}}, ready=False))
    assert condition(made)[:2] == ("True", "Downloaded")


def test_a_pod_that_waits_for_its_image_has_not_started() -> None:
    made = judged(pod(state={"waiting": {"reason": "PodInitializing"}}))
    assert condition(made)[2] == "pod svc-1 has not started to download yet"


def test_the_commit_and_the_size_are_told_of_what_is_there() -> None:
    there = pod(ready=True)
    told = polled(there, phase="Ready", bytes=2_500_000, total_bytes=2_500_000, revision="0123abcd")
    made = judged(there, told=told, ready=1)
    assert condition(made)[2] == "hf://org/model is downloaded at 0123abcd: 2.5 MB"
    assert made.fields["model"]["revision"] == "0123abcd"


def test_adapters_alone_are_told_as_such() -> None:
    model = {
        "uri": "file:///m",
        "lora": {"adapters": [{"name": "a", "uri": "hf://org/a"}]},
    }
    made = service(model=model)
    there = pod(ready=True)
    there["spec"] = {"initContainers": fetch_containers(made, image="sidecar:1")}
    told = polled(there, phase="Ready", bytes=1_000_000, total_bytes=1_000_000)
    observed = Observed(workload=deployment(ready=1), pods=(there,), polled=told)
    judgement = status(made, observed, before=(), now=NOW)
    assert condition(judgement)[2] == "adapters are downloaded: 1.0 MB"


def test_replicas_of_different_commits_are_told() -> None:
    pods = [pod(f"svc-{n}", ready=True) for n in range(2)]
    told = {
        **polled(pods[0], phase="Ready", revision="aaa"),
        **polled(pods[1], phase="Ready", revision="bbb"),
    }
    assert "different commits (aaa, bbb)" in condition(judged(*pods, told=told, ready=2))[2]


def test_the_former_model_keeps_the_service_ready() -> None:
    former = pod("svc-0", ready=True, of="hf://org/former")
    observed = Observed(
        workload=deployment(ready=1, updated=0), pods=(former, pod(state=FAILED)), polled={}
    )
    made = status(SERVICE, observed, before=(), now=NOW)
    assert condition(made)[:2] == ("True", "FormerModelServes")
    assert "no such model" in condition(made)[2]
    assert condition(made, "Ready")[0] == "True"
    assert condition(made, "Stalled")[:2] == ("True", "DownloadFailed")


@pytest.mark.parametrize(("wanted", "reason"), [(0, "DownloadsOnStart"), (1, "Downloading")])
def test_without_pods_nothing_is_downloaded(wanted: int, reason: str) -> None:
    observed = Observed(workload=deployment(wanted=wanted))
    made = status(SERVICE, observed, before=(), now=NOW)
    assert condition(made)[1] == reason


def test_a_missing_cache_claim_is_told() -> None:
    cached = service(model={"uri": "hf://org/model", "cache": {"claimName": "models"}})
    made = status(cached, Observed(workload=deployment()), before=(), now=NOW)
    assert condition(made)[:2] == ("False", "PersistentVolumeClaimNotFound")


def test_bytes_are_written_in_steps() -> None:
    before = {"model": {"phase": "Downloading", "bytes": 1000, "totalBytes": 9000}}
    little = {"model": {"phase": "Downloading", "bytes": 1040, "totalBytes": 9000}}
    much = {"model": {"phase": "Downloading", "bytes": 1100, "totalBytes": 9000}}
    done = {"model": {"phase": "Ready", "bytes": 1000, "totalBytes": 9000}}
    assert not worth_writing(before, little)
    assert worth_writing(before, much)
    assert worth_writing(before, done)


def test_pods_of_another_service_state_are_not_counted() -> None:
    other = replace(SERVICE, restarted_at="2026-11-21T12:00:00Z")
    observed = Observed(workload=deployment(ready=1), pods=(pod(state=RUNNING),))
    made = status(other, observed, before=(), now=NOW)
    assert "no pod has started" in condition(made)[2]
