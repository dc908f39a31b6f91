"""A download as the status tells it: real operator, real program, a hub that can be slow.

No kubelet runs here: the tests write what it would report of the pod.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.hub_repositories import Repository, commit_of
from fakes.hub_server import hub
from fakes.live_operator import View, eventually
from fakes.reports import report
from fakes.safetensors_files import model_files
from integration.fetch.running import Pod, wanted
from llmservice_sidecar.adapters.model_progress import read_progress

pytestmark = pytest.mark.usefixtures("operator")

Json = dict[str, Any]
ADDRESS = "127.0.9.95"
HUB: Json = {"uri": "hf://org/model"}
FILES = model_files(45_000_000)


@contextmanager
def sidecar(progress: Path) -> Generator[None]:
    """`GET :9090/status` as the sidecar beside a download answers it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/status" else 404)
            self.end_headers()
            told = msgspec.structs.replace(report(), model=read_progress(str(progress)))
            self.wfile.write(msgspec.json.encode(told))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's word
            """Say nothing."""

    server = ThreadingHTTPServer((ADDRESS, 9090), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kubelet_says(view: View, *, ready: bool = False, **fetch: Any) -> None:
    """The only pod's status: its download is as told."""
    (pod,) = eventually(lambda: view.list("pods"), until=lambda pods: len(pods) == 1)
    container = {
        "name": "fetch", "image": "i", "imageID": "", "ready": False, "restartCount": 0, **fetch
    }  # fmt: skip
    conditions = [
        {
            "type": kind,
            "status": "True" if ready or kind == "PodScheduled" else "False",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    status = {
        "phase": "Running" if ready else "Pending",
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "conditions": conditions,
        "initContainerStatuses": [container],
    }
    view.patch(f"pod/{pod['metadata']['name']}", {"status": status}, "--subresource=status")


def model_status(view: View) -> Json:
    found: Json = view.get("llmsvc/svc").get("status", {}).get("model", {})
    return found


def test_share_and_commit_of_a_download_are_told(view: View, tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    whole = sum(map(len, wanted(FILES).values()))
    with hub({"org/model": Repository.of(FILES)}) as served, sidecar(pod.out / "progress.json"):
        view.apply(model=HUB)
        eventually(
            lambda: view.reason("ModelReady"), until=lambda seen: seen == ("False", "Downloading")
        )
        served.faults.hold_at = 20_000_000
        running = pod.start("--get=model=hf://org/model", environment={"HF_ENDPOINT": served.url})
        eventually(lambda: (told := pod.report()) is not None and told.bytes > whole // 10)
        kubelet_says(view, state={"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        told = eventually(lambda: model_status(view), until=lambda seen: seen.get("bytes", 0) > 0)
        assert told["phase"] == "Downloading"
        assert told["totalBytes"] == whole
        assert told["revision"] == commit_of(FILES)
        assert "% of 45.0 MB" in view.condition("ModelReady")["message"]
        served.faults.hold_at = 0
        running.communicate(timeout=60)
        assert running.returncode == 0
        ended = {"exitCode": 0, "startedAt": None, "finishedAt": None}
        kubelet_says(view, ready=True, state={"terminated": ended})
        eventually(
            lambda: view.reason("ModelReady"), until=lambda seen: seen == ("True", "Downloaded")
        )
        eventually(lambda: model_status(view).get("bytes"), until=lambda seen: seen == whole)


def test_cause_of_a_failure_is_told(view: View, tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    with hub({}) as served, sidecar(pod.out / "progress.json"):
        view.apply(model=HUB)
        status, last = pod.fetch(
            "--get=model=hf://org/model", environment={"HF_ENDPOINT": served.url}
        )
        ended = {"exitCode": status, "message": f"{last}\n", "startedAt": None, "finishedAt": None}
        kubelet_says(
            view,
            state={"waiting": {"reason": "CrashLoopBackOff"}},
            lastState={"terminated": ended},
            restartCount=2,
        )
        eventually(
            lambda: view.reason("ModelReady"),
            until=lambda seen: seen == ("False", "DownloadFailed"),
        )
        assert last in view.condition("ModelReady")["message"]
        assert "tokenSecretRef" in last
        assert view.reason("Stalled") == ("True", "DownloadFailed")
        assert view.reason("Ready") == ("False", "DownloadFailed")
        assert model_status(view)["phase"] == "Failed"


def test_claim_of_the_cache_is_made_and_goes(view: View) -> None:
    view.apply(model=HUB | {"cache": {"size": "1Gi", "storageClassName": "none"}})
    claim = eventually(lambda: view.get("pvc/svc-models"))
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["ownerReferences"][0]["kind"] == "LLMService"
    (volume,) = [
        each
        for each in view.get("deploy/svc")["spec"]["template"]["spec"]["volumes"]
        if each["name"] == "models"
    ]
    assert volume["persistentVolumeClaim"]["claimName"] == "svc-models"
    view.apply(model=HUB)
    eventually(lambda: not view.get("pvc/svc-models"))


def test_missing_claim_of_a_cache_is_told(view: View) -> None:
    view.apply(model=HUB | {"cache": {"claimName": "models"}})
    eventually(
        lambda: view.reason("ModelReady"),
        until=lambda seen: seen == ("False", "PersistentVolumeClaimNotFound"),
    )
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    view.kubectl("apply", "-f", "-", stdin=json.dumps(claim))
    eventually(
        lambda: view.reason("ModelReady"), until=lambda seen: seen == ("False", "Downloading")
    )
    view.kubectl("delete", "pvc/models", "--wait=false")
