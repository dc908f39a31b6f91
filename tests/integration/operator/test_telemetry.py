"""What an operator at work tells of itself: spans, metrics, log lines, and that it sees."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import kopf
import pytest
import yaml
from cluster.controlplane import ControlPlane
from cluster.processes import free_ports
from fakes.fleet import metric
from fakes.live_operator import LiveOperator, View, eventually
from fakes.manifests import SETTINGS
from llmservice_operator.handlers import registry_for
from llmservice_operator.leader_election import Terms
from llmservice_operator.operator_process import OperatorProcess
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PREFIX = "llmservice_operator"


class Collector:
    """An OTLP/HTTP receiver that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Generator[Collector]:
    running = Collector()
    yield running
    running.close()


def test_a_look_is_one_span_with_its_writes_below(
    plane: ControlPlane, view: View, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    operator = LiveOperator(plane, f"--namespace={view.namespace}", "--log-format=json")
    try:
        view.apply()
        eventually(lambda: view.condition("Ready"))
        found = eventually(
            lambda: {span.name: span for span in list(collector.spans)},
            until=lambda seen: {"reconcile", "apply Deployment"} <= seen.keys(),
        )
        assert {"apply ConfigMap", "apply Service", "apply LLMService/status"} <= found.keys()
        made = found["apply Deployment"]
        look = next(s for s in collector.spans if s.span_id == made.parent_span_id)
        assert look.name == "reconcile"
        told = {pair.key: pair.value.string_value for pair in look.attributes}
        assert told == {"llmservice.namespace": view.namespace, "llmservice.name": "svc"}
        uid = view.get("llmsvc/svc")["metadata"]["uid"]
        lines = [json.loads(line) for line in operator.log.read_text().splitlines()]
        about = [line for line in lines if line.get("name") == "svc"]
        assert about
        assert {(line["namespace"], line["uid"]) for line in about} == {(view.namespace, uid)}
        assert all("reason" in line for line in about)
        assert operator.stop() == 0
    finally:
        if operator.ended() is None:
            operator.kill()
        operator.log.unlink()


def test_figures_follow_what_happens(plane: ControlPlane, view: View) -> None:
    operator = LiveOperator(plane, f"--namespace={view.namespace}")
    try:
        view.apply_all({"a": {"suspend": True}, "b": {"suspend": True}})
        services = f"{PREFIX}_services"
        eventually(
            lambda: metric_or_none(operator, services, condition="Ready", status="False"),
            until=lambda count: count == 2,
        )
        assert metric(operator, f"{PREFIX}_leader") == 1
        assert metric(operator, f"{PREFIX}_reconcile_seconds_count") >= 2
        assert metric(operator, f"{PREFIX}_reconcile_errors_total") == 0
        # A change that has just been listed may not have been told yet.
        eventually(
            lambda: metric(operator, f"{PREFIX}_unseen_change_seconds"),
            until=lambda seconds: seconds == 0,
        )
        view.kubectl("delete", "llmsvc/a")
        eventually(
            lambda: metric(operator, services, condition="Ready", status="False"),
            until=lambda count: count == 1,
        )
        page = operator.metrics()
        assert view.namespace not in page, "a label names a namespace: its number is not bounded"
    finally:
        operator.kill()
        operator.log.unlink()


def metric_or_none(operator: LiveOperator, name: str, **labels: str) -> float | None:
    with suppress(OSError):
        return metric(operator, name, **labels)
    return None


BLIND_RULES: list[dict[str, Any]] = [
    # Everything but the right to watch LLMServices: what an operator has that was deafened.
    {"apiGroups": ["llmservice.dev"], "resources": ["*"], "verbs": ["get", "list", "patch"]},
    {"apiGroups": ["", "apps", "policy", "autoscaling", "networking.k8s.io", "discovery.k8s.io"],
     "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
     "verbs": ["get", "create", "update"]},
]  # fmt: skip


def deafened(plane: ControlPlane, view: View, directory: Path) -> Path:
    """A kubeconfig with which LLMServices can be read and not be watched."""
    view.kubectl("create", "serviceaccount", "deaf")
    name = {"name": "deaf"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deaf"}
    subject = {"kind": "ServiceAccount", "name": "deaf", "namespace": view.namespace}
    version = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    granted = [
        version | {"kind": "Role", "metadata": name, "rules": BLIND_RULES},
        version | {"kind": "RoleBinding", "metadata": name, "roleRef": reference,
                   "subjects": [subject]},
    ]  # fmt: skip
    view.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(granted))
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": view.kubectl("create", "token", "deaf").strip()}
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_an_operator_that_no_event_reaches_works_on_and_says_that_it_is_blind(
    plane: ControlPlane, view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(deafened(plane, view, tmp_path)))
    settings = replace(
        SETTINGS, namespaces=(view.namespace,), lease_namespace=view.namespace,
        lease_terms=Terms(duration_s=9.0), resync_every_s=0.5, blind_after_s=2.0,
    )  # fmt: skip
    process = OperatorProcess(settings)
    (port,), stop, ready = free_ports(1), asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(
        kopf.operator(
            registry=registry_for(process, settings), standalone=True,
            namespaces=settings.namespaces, stop_flag=stop, ready_flag=ready,
            liveness_endpoint=f"http://127.0.0.1:{port}/healthz",
        )
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        # The first listing is no watch: kopf knows what was there when it started.
        await asyncio.to_thread(view.apply, "later")
        await asyncio.to_thread(eventually, lambda: view.exist("later"), within_s=60)
        assert process.blind_s > 0
        await asyncio.to_thread(
            eventually, lambda: probed(port), until=lambda code: code == 500, within_s=60
        )
    finally:
        stop.set()
        await task


def probed(port: int) -> int:
    """The answer of the liveness probe."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
