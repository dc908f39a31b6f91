"""Replicas as a kubelet and a scheduler would report them: status must say what is the matter.

No kubelet runs here, so the tests write the pods' status themselves; all that judges it is real.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from fakes.live_operator import View, eventually
from llmservice_api.status_report import (
    EngineReport,
    PredictorReport,
    QueueReport,
    StatusReport,
)

pytestmark = pytest.mark.usefixtures("operator")

Json = dict[str, Any]
# An address of this machine that nothing else listens on; the port is the sidecar's.
SIDECAR_ADDRESS = "127.0.9.90"


def report(**predictor: Any) -> StatusReport:
    """A healthy sidecar's report."""
    told: Json = {
        "mode": "Enforce",
        "kind": "Default",
        "state": "Ready",
        "samples": 500,
    } | predictor
    return StatusReport(
        generation_applied=1,
        static_hash="0",
        ready=True,
        draining=False,
        engine=EngineReport(healthy=True),
        queue=QueueReport(
            policy="SSJF",
            order="SSJF",
            queued_requests=0,
            queued_tokens=0.0,
            in_flight_slots=0,
            limit_slots=4,
            backlog_s=0.0,
            gamma_per_s=0.1,
        ),
        predictor=PredictorReport(**told),
    )


@contextmanager
def sidecar(answer: bytes) -> Generator[None]:
    """Something that answers `GET :9090/status` as a sidecar does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/status" else 404)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's word
            """Say nothing."""

    server = ThreadingHTTPServer((SIDECAR_ADDRESS, 9090), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def one_pod(view: View) -> str:
    """The name of the only pod, once it is there."""
    (pod,) = eventually(lambda: view.list("pods"), until=lambda pods: len(pods) == 1)
    return pod["metadata"]["name"]


def report_pod(view: View, pod: str, status: Json) -> None:
    """What a kubelet or a scheduler writes about a pod."""
    view.patch(f"pod/{pod}", {"status": status}, "--subresource=status")


def make_ready(view: View, pod: str) -> None:
    """A pod that runs and is ready."""
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    addresses = {"podIP": SIDECAR_ADDRESS, "podIPs": [{"ip": SIDECAR_ADDRESS}]}
    report_pod(view, pod, {"phase": "Running", "conditions": conditions, **addresses})


def container(name: str, state: Json, **more: Any) -> Json:
    """A container's status."""
    return {
        "name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 0,
        "state": state, **more,
    }  # fmt: skip


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, "message": message}}


ENDED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "ValueError: no such model"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
}

TROUBLES = {
    "ImagePullFailed": {
        "containerStatuses": [container("main", waiting("ImagePullBackOff", "no such image"))]
    },
    "EngineCrashLooping": {
        "containerStatuses": [
            container("main", waiting("CrashLoopBackOff"), restartCount=3, lastState=ENDED)
        ]
    },
    "EngineOutOfMemory": {
        "containerStatuses": [
            container("main", waiting("CrashLoopBackOff"), restartCount=3, lastState=KILLED)
        ]
    },
    "EngineLoading": {
        "containerStatuses": [container("main", {"running": {"startedAt": None}}, started=False)],
        "initContainerStatuses": [
            container("sidecar", {"running": {"startedAt": None}}, started=True)
        ],
    },
    "InsufficientGPUs": {"conditions": [UNSCHEDULED]},
}


@pytest.mark.parametrize("reason", TROUBLES)
def test_trouble_of_a_pod_has_a_reason_of_its_own(view: View, reason: str) -> None:
    device = "GPU" if reason == "InsufficientGPUs" else "CPU"
    view.apply(engine={"device": device})
    pod = one_pod(view)
    report_pod(view, pod, {"phase": "Pending", **TROUBLES[reason]})
    eventually(lambda: view.reason("Ready"), until=lambda seen: seen == ("False", reason))
    assert pod in view.condition("Ready")["message"]


def test_ready_replica_makes_the_service_ready(view: View) -> None:
    with sidecar(msgspec.json.encode(report(calibrated=True, tau=0.5))):
        view.apply()
        make_ready(view, one_pod(view))
        view.kubectl("wait", "--for=condition=Ready", "llmsvc/svc", "--timeout=30s")
        eventually(
            lambda: view.reason("PredictorCalibrated"),
            until=lambda seen: seen == ("True", "Calibrated"),
        )
    status = view.get("llmsvc/svc")["status"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (1, 1, 1)
    assert status["predictor"]["tau"] == "0.500"
    assert status["model"]["phase"] == "Ready"
    assert view.reason("Reconciling")[0] == "False"
    assert view.reason("Stalled")[0] == "False"


@pytest.mark.parametrize(
    ("predictor", "ready", "calibrated"),
    [
        ({"state": "Failed", "message": "no file"}, ("False", "PredictorFailed"), None),
        ({"state": "Loading"}, ("False", "PredictorLoading"), None),
        ({"samples": 3}, ("True", "PredictorLoaded"), ("Unknown", "TooFewSamples")),
        ({"calibrated": False}, ("True", "PredictorLoaded"), ("False", "RankCorrelationTooLow")),
    ],
    ids=["failed", "loading", "too few samples", "not calibrated"],
)
def test_predictor_is_told_and_never_gates_ready(
    view: View,
    predictor: Json,
    ready: tuple[str, str],
    calibrated: tuple[str, str] | None,
) -> None:
    with sidecar(msgspec.json.encode(report(**predictor))):
        view.apply()
        make_ready(view, one_pod(view))
        eventually(lambda: view.reason("PredictorReady"), until=lambda seen: seen == ready)
    assert calibrated in {None, view.reason("PredictorCalibrated")}
    assert view.reason("Ready") == ("True", "Ready")


def test_silent_sidecar_is_told(view: View) -> None:
    view.apply()
    make_ready(view, one_pod(view))
    eventually(
        lambda: view.reason("PredictorReady"),
        until=lambda seen: seen == ("Unknown", "StatusUnavailable"),
    )
    assert view.reason("Ready") == ("True", "Ready")


def test_long_report_is_read_whole(view: View) -> None:
    told = report(message="x" * 200_000)
    with sidecar(msgspec.json.encode(told)):
        view.apply()
        make_ready(view, one_pod(view))
        eventually(lambda: view.reason("PredictorReady"), until=lambda seen: seen[0] == "True")


def test_endless_report_is_refused(view: View) -> None:
    with sidecar(b" " * 2_000_000 + msgspec.json.encode(report())):
        view.apply()
        make_ready(view, one_pod(view))
        eventually(
            lambda: view.reason("PredictorReady"),
            until=lambda seen: seen == ("Unknown", "StatusUnavailable"),
        )


def test_report_of_another_version_is_told(view: View) -> None:
    strange = json.dumps({**msgspec.to_builtins(report()), "version": 99}).encode()
    with sidecar(strange):
        view.apply()
        make_ready(view, one_pod(view))
        eventually(
            lambda: view.reason("PredictorReady"),
            until=lambda seen: seen == ("Unknown", "StatusUnavailable"),
        )
    assert "99" in view.condition("PredictorReady")["message"]


def test_surge_without_a_gpu_stalls_the_rollout_and_names_the_field(view: View) -> None:
    view.apply(engine={"device": "GPU"})
    old = one_pod(view)
    make_ready(view, old)
    eventually(lambda: view.reason("Ready"), until=lambda seen: seen == ("True", "Ready"))
    view.patch("llmsvc/svc", {"spec": {"engine": {"maxNumSeqs": 8}}})
    pods = eventually(lambda: view.list("pods"), until=lambda pods: len(pods) == 2)
    (surge,) = {pod["metadata"]["name"] for pod in pods} - {old}
    report_pod(view, surge, {"phase": "Pending", "conditions": [UNSCHEDULED]})
    eventually(
        lambda: view.reason("Stalled"),
        until=lambda seen: seen == ("True", "InsufficientGPUsForSurge"),
    )
    assert "spec.rolloutStrategy" in view.condition("Stalled")["message"]
    assert view.reason("Ready")[0] == "True", "the old replica still serves"
