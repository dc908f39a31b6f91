"""Priorities, tenants and deadlines through both doors of a real sidecar before a real vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from fakes.otlp_receiver import OtlpReceiver
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from integration.sidecar.clients import (
    chat_body,
    generate_request,
    grpc_stub,
    occupied,
    post_chat,
)
from integration.sidecar.conftest import static_config
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import LiveConfig, PriorityLevelConfig
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

QUEUE = 4
LIVE = LiveConfig(
    policy="FCFS",
    max_concurrency=1,  # one after the other: the order is seen in the order of the answers
    max_queued_requests=QUEUE,
    priority_levels=(
        PriorityLevelConfig(name="interactive", value=10),
        PriorityLevelConfig(name="batch", value=-10),
    ),
)
HINT = "x-llmservice-priority"
TENANT = "x-gateway-inference-fairness-id"


@pytest.fixture(scope="module")
def classes(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SidecarProcess]:
    """A sidecar with two classes, one slot, and room for four in its queue."""
    config = static_config(engine_latency, otlp)
    with SidecarProcess(config, tmp_path_factory.mktemp("classes"), LIVE) as process:
        yield process


class Line:
    """Calls that queue up one behind the other; `answered`: names in the order of their answers."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self._sidecar = sidecar
        self._tasks: list[asyncio.Task[None]] = []
        self.answered: list[str] = []
        self.answers: dict[str, tuple[int, dict[str, str], Any]] = {}

    async def join(self, name: str, *, depth: int, **headers: str) -> None:
        """Send a call and wait until so many are queued."""
        self._tasks.append(asyncio.create_task(self._call(name, headers)))
        await asyncio.to_thread(self._sidecar.await_status, name, queued_requests=depth)

    async def end(self) -> None:
        """Wait until all have their answers."""
        await asyncio.wait_for(asyncio.gather(*self._tasks), 30)

    async def _call(self, name: str, headers: dict[str, str]) -> None:
        self.answers[name] = await post_chat(self._sidecar, chat_body(10), headers)
        self.answered.append(name)


async def learned(sidecar: SidecarProcess) -> None:
    """Service times must be known before a wait can be foreseen."""
    for _ in range(10):
        await post_chat(sidecar, chat_body(20))


async def test_a_hint_lowers_and_cannot_raise(classes: SidecarProcess) -> None:
    line = Line(classes)
    async with occupied(classes, running=1, out_len=200):
        await line.join("low", depth=1, **{HINT: "batch"})
        await line.join("plain", depth=2)
        await line.join("highest", depth=3, **{HINT: "interactive"})
    await line.end()
    assert line.answered == ["plain", "highest", "low"]
    assert {status for status, _, _ in line.answers.values()} == {200}


async def test_an_unknown_hint_is_refused_by_both_doors(classes: SidecarProcess) -> None:
    status, _, answer = await post_chat(classes, chat_body(5), {HINT: "admin"})
    message = "x-llmservice-priority is 'admin'; allowed: interactive, batch"
    assert status == 400
    assert answer["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": HINT,
        "code": "invalid_value",
    }
    async with grpc_stub(classes) as stub:
        for hint in ({"metadata": ((HINT, "admin"),)}, {}):
            request = generate_request(5, priority="" if hint else "admin")
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await consumed(stub.Generate(request, **hint))
            assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert failed.value.details() == message
            violation = detail(failed.value, BadRequest).field_violations[0]
            assert violation.field == HINT


async def test_grpc_names_its_class_by_metadata_or_field(classes: SidecarProcess) -> None:
    line = Line(classes)
    async with grpc_stub(classes) as stub:
        async with occupied(classes, running=1, out_len=200):
            by_field = stub.Generate(generate_request(5, priority="batch"))
            await by_field.read()
            by_metadata = stub.Generate(generate_request(5), metadata=((HINT, "batch"),))
            await by_metadata.read()
            await line.join("plain", depth=3)
            assert (await stub.GetQueue(pb.GetQueueRequest())).queued_requests == 3
        await line.end()
        for call in (by_field, by_metadata):
            finished = (await consumed(call))[-1].finished
            wait_ms = finished.timings.queue_wait.ToMilliseconds()
            headers = {name.lower(): text for name, text in line.answers["plain"][1].items()}
            assert wait_ms > float(headers["x-llmservice-queue-ms"])


async def test_a_flooding_tenant_cannot_shut_another_out(classes: SidecarProcess) -> None:
    line = Line(classes)
    async with occupied(classes, running=1, out_len=300):
        for number in range(QUEUE):
            await line.join(f"flood {number}", depth=number + 1, **{TENANT: "flood"})
        await line.join("flood again", depth=QUEUE, **{TENANT: "flood"})
        await line.join("other", depth=QUEUE, **{TENANT: "other"})
        async with asyncio.timeout(10):
            while len(line.answers) < 2:  # noqa: ASYNC110 - two are refused at once
                await asyncio.sleep(0.02)
    await line.end()
    assert line.answers["other"][0] == 200
    refused = {name: answer for name, answer in line.answers.items() if answer[0] == 429}
    codes = {name: answer[2]["error"]["code"] for name, answer in refused.items()}
    assert codes == {f"flood {QUEUE - 1}": "queue_share", "flood again": "queue_full"}
    for _, headers, _ in refused.values():
        assert int({name.lower(): text for name, text in headers.items()}["retry-after-ms"]) > 0


async def test_a_deadline_out_of_reach_is_refused_with_the_estimate(
    classes: SidecarProcess,
) -> None:
    await learned(classes)
    async with occupied(classes, running=1, queued=2), grpc_stub(classes) as stub:
        hurry = {"x-request-timeout-ms": "20"}
        status, headers, answer = await post_chat(classes, chat_body(5), hurry)
        call = stub.Generate(generate_request(5), timeout=0.05)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await consumed(call)
        queue = classes.status().queue
    assert (status, answer["error"]["code"]) == (429, "deadline_unreachable")
    assert answer["error"]["message"].startswith("the answer is expected to be complete in ")
    assert "the deadline is in 0.0 s" in answer["error"]["message"]
    assert int({name.lower(): text for name, text in headers.items()}["retry-after"]) >= 1
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "is expected to be complete in" in str(failed.value.details())
    assert detail(failed.value, RetryInfo).retry_delay.ToMilliseconds() >= 1000
    assert queue.queued_requests == 2


async def test_who_waits_is_told_its_place_and_expected_wait(classes: SidecarProcess) -> None:
    await learned(classes)
    async with occupied(classes, running=1), grpc_stub(classes) as stub:
        call = stub.Generate(generate_request(5, request_id="mine"))
        told = (await call.read()).queued
        asked = await stub.GetQueue(pb.GetQueueRequest(request_id="mine"))
        other = await stub.GetQueue(pb.GetQueueRequest(request_id="nobody"))
        watched = await stub.WatchQueue(pb.WatchQueueRequest(request_id="mine")).read()
        call.cancel()
    assert (told.position, told.depth) == (0, 1)
    assert told.HasField("eta")
    for state in (asked, watched):
        assert (state.request.position, state.request.depth) == (0, 1)
        assert state.request.HasField("eta")
    assert not other.HasField("request")
    metrics = classes.get("/metrics").decode()
    assert 'llmservice_requests_total{outcome="rejected",reason="deadline_unreachable"}' in metrics
    assert "llmservice_queue_wait_error_ratio_count" in metrics


async def consumed(call: Any) -> list[pb.GenerateResponse]:
    """The rest of a stream."""
    messages: list[pb.GenerateResponse] = []
    while message := await call.read():  # the end is false
        messages.append(message)
    return messages


def detail(error: grpc.aio.AioRpcError, kind: type[Any]) -> Any:
    """The status detail of a kind."""
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
    status = Status.FromString(trailers["grpc-status-details-bin"])
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    raise AssertionError(f"no {kind.__name__} in {status}")
