"""The main job on a real node: apply, Ready, answers by both doors, their trace, delete, nothing.

The tests share one LLMService and run in the order of this file.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from typing import Any, Final

import grpc
import pytest
from e2e.jaeger import JaegerSpan, read_trace
from e2e.kube import MANIFESTS, Cluster, Kube
from llmservice_api import names
from llmservice_sidecar.runtime import telemetry_names as telemetry
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import (
    inference_pb2,
    inference_pb2_grpc,
)

SERVICE: Final = "tiny"
READY_WITHIN_S: Final = 240.0  # most of it is the engine's start, from a cold disk perhaps
TRACED_WITHIN_S: Final = 30.0
OUTPUT_TOKENS: Final = 24
OWNED_KINDS: Final = (
    "deployments,replicasets,pods,services,endpointslices,configmaps,serviceaccounts,"
    "poddisruptionbudgets"
)
MESSAGES: Final = [{"role": "user", "content": "Name three rivers."}]


@pytest.fixture(scope="module")
def ready(kube: Kube, operator: str, namespace: str) -> None:
    """Apply the service and wait until its condition Ready is True."""
    manifest = (MANIFESTS / "service.yaml").read_text(encoding="utf-8")
    kube.run("apply", "-n", namespace, "-f", "-", stdin=manifest.encode())
    reference = f"llmservice/{SERVICE}"
    seconds = kube.wait_until(
        f"{reference} is Ready",
        lambda: kube.ready_condition(reference, namespace).get("status") == "True",
        timeout_s=READY_WITHIN_S,
        show=f"describe -n {namespace} llmservice,pod",
    )
    print(f"Ready after {seconds:.0f} s")


@pytest.fixture(scope="module")
def http(kube: Kube, namespace: str, ready: None) -> Generator[str]:
    """The HTTP door's address on this machine."""
    with kube.forward(f"service/{SERVICE}", names.PORT_HTTP, namespace=namespace) as address:
        yield address


@pytest.fixture(scope="module")
def grpc_address(kube: Kube, namespace: str, ready: None) -> Generator[str]:
    """The gRPC door's address on this machine."""
    with kube.forward(f"service/{SERVICE}", names.PORT_GRPC, namespace=namespace) as address:
        yield address


class Trace:
    """A trace of the client's own, so that the spans of one request can be found."""

    def __init__(self) -> None:
        self.trace_id = secrets.token_hex(16)
        self.parent = f"00-{self.trace_id}-{secrets.token_hex(8)}-01"


def test_kubectl_get_shows_readiness_and_policy(kube: Kube, namespace: str, ready: None) -> None:
    header, row = kube.run("get", "llmsvc", "-n", namespace).strip().splitlines()
    assert header.split()[:5] == ["NAME", "READY", "REASON", "MODEL", "REPLICAS"]
    assert row.split()[:2] == [SERVICE, "True"]
    assert "SSJF" in row.split()


def test_status_names_the_address_that_clients_use(kube: Kube, namespace: str, ready: None) -> None:
    status = kube.get(f"llmservice/{SERVICE}", "-n", namespace)["status"]
    assert status["url"] == f"http://{SERVICE}.{namespace}.svc:{names.PORT_HTTP}"
    assert status["readyReplicas"] == 1


def test_http_door_streams_an_answer_and_its_trace_reaches_jaeger(
    kube: Kube, http: str, jaeger: str
) -> None:
    trace = Trace()
    events = _stream_chat(http, trace)
    assert events[-1]["usage"]["completion_tokens"] == OUTPUT_TOKENS
    finish = [c["finish_reason"] for e in events for c in e["choices"] if c.get("finish_reason")]
    assert finish == ["stop"]
    assert "".join(c["delta"].get("content") or "" for e in events for c in e["choices"])
    _check_tree(_trace(kube, jaeger, trace), door="http")


def test_grpc_door_streams_an_answer_and_its_trace_reaches_jaeger(
    kube: Kube, grpc_address: str, jaeger: str
) -> None:
    trace = Trace()
    responses = _generate(grpc_address, trace)
    assert responses[-1].WhichOneof("event") == "finished"
    assert responses[-1].finished.usage.completion_tokens == OUTPUT_TOKENS
    assert any(response.delta.text for response in responses)
    _check_tree(_trace(kube, jaeger, trace), door="grpc")


def test_grpcurl_finds_the_service_by_reflection(cluster: Cluster, grpc_address: str) -> None:
    grpcurl = [str(cluster.programs["grpcurl"]), "-plaintext", grpc_address]
    listed = subprocess.run([*grpcurl, "list"], capture_output=True, text=True, check=True)
    assert names.GRPC_SERVICE in listed.stdout.split()
    health = subprocess.run(
        [*grpcurl, "grpc.health.v1.Health/Check"], capture_output=True, text=True, check=True
    )
    assert json.loads(health.stdout) == {"status": "SERVING"}


def test_service_name_resolves_and_answers_inside_the_cluster(
    kube: Kube, namespace: str, ready: None
) -> None:
    status = kube.get(f"llmservice/{SERVICE}", "-n", namespace)["status"]
    script = f"import urllib.request as r; print(r.urlopen({status['url'] + '/health'!r}).status)"
    loader = ("loader", "-n", f"{namespace}-tools")
    assert kube.run("exec", *loader, "--", "python", "-c", script).strip() == "200"


def test_pods_carry_no_token_of_the_api_server(kube: Kube, namespace: str, ready: None) -> None:
    selector = f"{names.LABEL_NAME}={SERVICE}"
    (pod,) = kube.get("pods", "-n", namespace, "-l", selector)["items"]
    assert not [v for v in pod["spec"]["volumes"] if "projected" in v]


def test_queue_is_read_through_port_forwarding(kube: Kube, namespace: str, ready: None) -> None:
    command = [sys.executable, "-m", "llmservice_local", "queue", SERVICE, "-n", namespace]
    options = [f"--kubeconfig={kube.kubeconfig}", "--json", "-"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    (replica,) = json.loads(done.stdout)["replicas"]
    assert replica["error"] == ""
    assert replica["view"]["queue"]["limit_slots"] >= 1


def test_operator_may_not_read_secrets(kube: Kube, operator: str) -> None:
    account = f"system:serviceaccount:{operator}:llmservice-e2e"
    allowed = kube.run("auth", "can-i", "--list", f"--as={account}")
    assert "llmservices.llmservice.dev" in allowed
    assert "secrets" not in allowed


def test_deleting_the_service_leaves_nothing(kube: Kube, namespace: str, ready: None) -> None:
    selector = f"{names.LABEL_NAME}={SERVICE}"
    assert kube.items(OWNED_KINDS, "-n", namespace, "-l", selector) != []
    kube.run("delete", "llmservice", SERVICE, "-n", namespace, "--timeout=60s")
    kube.wait_until(
        "everything that was made for it is gone",
        lambda: _left(kube, namespace) == [],
        timeout_s=90,
        show=f"get {OWNED_KINDS} -n {namespace}",
    )


def _left(kube: Kube, namespace: str) -> list[str]:
    # Every namespace has these two of its own.
    own = {"serviceaccount/default", "configmap/kube-root-ca.crt"}
    return [item for item in kube.items(OWNED_KINDS, "-n", namespace) if item not in own]


def _stream_chat(address: str, trace: Trace) -> list[dict[str, Any]]:
    body = {
        "model": SERVICE,
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 256,
        "vllm_xargs": {"out_len": OUTPUT_TOKENS},
    }
    request = urllib.request.Request(
        f"http://{address}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "traceparent": trace.parent},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line.decode().strip() for line in reply if line.startswith(b"data: ")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def _generate(address: str, trace: Trace) -> list[inference_pb2.GenerateResponse]:
    request = inference_pb2.GenerateRequest(
        chat=inference_pb2.ChatPrompt(
            messages=[
                inference_pb2.ChatMessage(role=message["role"], content=message["content"])
                for message in MESSAGES
            ]
        ),
        sampling=inference_pb2.SamplingParams(max_tokens=256, temperature=0),
        extra_args={"out_len": str(OUTPUT_TOKENS)},
    )
    with grpc.insecure_channel(address) as channel:
        # The generated stub has no types.
        stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        return list(stub.Generate(request, timeout=60, metadata=[("traceparent", trace.parent)]))


def _trace(kube: Kube, jaeger: str, trace: Trace) -> dict[str, JaegerSpan]:
    """The spans of a trace by name, once the engine's own span has arrived too."""
    found: dict[str, JaegerSpan] = {}

    def complete() -> bool:
        found.update(read_trace(jaeger, trace.trace_id))
        return telemetry.SPAN_ENGINE_OWN in found and telemetry.SPAN_QUEUE in found

    kube.wait_until(
        f"trace {trace.trace_id} is complete in Jaeger", complete, timeout_s=TRACED_WITHIN_S
    )
    return found


def _check_tree(spans: dict[str, JaegerSpan], *, door: str) -> None:
    (server,) = [s for s in spans.values() if s.tags.get(telemetry.ATTR_DOOR) == door]
    client = spans[f"chat {SERVICE}"]
    engine = spans[telemetry.SPAN_ENGINE_OWN]
    assert server.tags["span.kind"] == "server"
    assert server.tags[telemetry.ATTR_OUTCOME] == "completed"
    assert server.tags[telemetry.ATTR_ACTUAL] == OUTPUT_TOKENS
    assert spans[telemetry.SPAN_PREDICT].parent == server.span_id
    assert spans[telemetry.SPAN_QUEUE].parent == server.span_id
    assert client.parent == server.span_id
    assert client.tags[telemetry.ATTR_GEN_AI_OUTPUT_TOKENS] == OUTPUT_TOKENS
    assert engine.parent == client.span_id
    # The engine tells of its own queue. That it stays empty is proved where nothing else runs:
    # tests/integration/sidecar/test_tracing.py.
    assert engine.tags[telemetry.ATTR_ENGINE_QUEUE_S] >= 0
