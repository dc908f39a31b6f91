"""A service under a load with every outcome, all of its parts real, and Prometheus beside it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from cluster.controlplane import control_plane
from fakes.live_operator import LiveOperator, View, eventually
from fakes.live_pods import make_all_ready
from fakes.otlp_receiver import OtlpReceiver
from fakes.replica import FakeReplica
from integration.activator.conftest import CHAT, bench, until
from integration.monitoring.prometheus import Prometheus, address_of, shortened
from integration.monitoring.rules import rendered, write
from integration.sidecar.clients import post_chat
from integration.sidecar.conftest import SLOTS, static_config
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import (
    CalibrationConfig,
    LiveConfig,
    PredictorConfig,
    StaticConfig,
    TracingConfig,
)
from llmservice_lab.engine.latency_model import LatencyModel
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess

ROOT: Final = Path(__file__).parents[3]
NOBODY: Final = "http://127.0.0.1:9"  # no collector listens here
_NO_SIDECAR: Final = "127.0.9.91"  # nor a sidecar
QUEUE: Final = 12
_HELD: Final = 2
# Thresholds that a test can reach, and that a calm service is far from.
_THRESHOLDS: Final = {
    "queueWaitSeconds": 1,
    "starvationSeconds": 3,
    "backlogSeconds": 0.5,
    "coverageSamples": 30,
}
_REFUSAL: Final = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-status}
spec:
  matchConstraints:
    resourceRules:
      - apiGroups: [llmservice.dev]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: [llmservices/status]
  validations:
    - {expression: "object.metadata.name != 'refused'", message: no status for it}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-status}
spec: {policyName: no-status, validationActions: [Deny]}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What tests look at and act on."""

    prometheus: Prometheus
    sidecar: SidecarProcess
    untraced: SidecarProcess  # its collector is dead
    engine: EngineProcess
    otlp: OtlpReceiver
    operator: LiveOperator
    view: View


@contextmanager
def stage(directory: Path) -> Generator[Stage]:
    """Engine, two sidecars, a control plane with its operator, and Prometheus."""
    # A missed scrape or two on a busy machine is no alert.
    rules = shortened(rendered(**_THRESHOLDS), wait="4s", window="10s")
    with ExitStack() as stack:
        prometheus = stack.enter_context(
            Prometheus(directory, write(rules, directory / "rules.yaml"))
        )
        otlp = stack.enter_context(OtlpReceiver())
        options = EngineOptions(
            kind=EngineKind.LATENCY, max_num_seqs=SLOTS, latency=LatencyModel(step_s=5e-3)
        )
        engine = stack.enter_context(EngineProcess(options))
        plane = stack.enter_context(control_plane())
        plane.kubectl("apply", "--server-side", "-f", str(ROOT / "crds" / "llmservice.yaml"))
        plane.kubectl("wait", "--for=condition=Established", "crd/llmservices.llmservice.dev")
        plane.kubectl("create", "namespace", "team")
        operator = LiveOperator(plane)
        stack.callback(operator.log.unlink)
        stack.callback(lambda: operator.kill() if operator.ended() is None else None)
        config = _judged_early(static_config(engine, otlp))
        live = LiveConfig(max_queued_requests=QUEUE)
        sidecar = stack.enter_context(SidecarProcess(config, directory / "sidecar", live))
        lost = msgspec.structs.replace(config, tracing=TracingConfig(exporter_endpoint=NOBODY))
        untraced = stack.enter_context(SidecarProcess(lost, directory / "untraced", live))
        service = {"job": "team/chat", "namespace": "team"}
        prometheus.scrape("chat-0", address_of(sidecar.http), llmservice="chat", **service)
        prometheus.scrape("lost-0", address_of(untraced.http), llmservice="lost", **service)
        prometheus.scrape(
            "operator-0", f"127.0.0.1:{operator.http_port}", job="llmservice", namespace="system"
        )
        yield Stage(prometheus, sidecar, untraced, engine, otlp, operator, View(plane, "team"))


def _judged_early(config: StaticConfig) -> StaticConfig:
    calibration = CalibrationConfig(min_samples=32, window_samples=200)
    # Predictions in time even on a machine that does other work, too.
    return msgspec.structs.replace(
        config, predictor=PredictorConfig(timeout_s=0.5, calibration=calibration)
    )


def body(tokens: int, **fields: object) -> dict[str, Any]:
    """A prompt that tells how long its answer will be, as some do."""
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"write {tokens} words " * (1 + tokens // 4)}],
        "max_tokens": 1500,
        "vllm_xargs": {"out_len": tokens},
        **fields,
    }


async def calm(sidecar: SidecarProcess, *, requests: int = 12) -> None:
    """One request after the other: nobody waits."""
    for number in range(requests):
        status, _, _ = await post_chat(sidecar, body(4 + number % 3))
        assert status == 200


async def busy(sidecar: SidecarProcess) -> None:
    """Completed, refused, evicted and cancelled requests, and those that are no requests."""
    await _evicted_and_cancelled(sidecar)
    room = asyncio.Semaphore(SLOTS + QUEUE)

    async def one(tokens: int) -> int:
        async with room:
            return await _streamed(sidecar, body(tokens, stream=True))

    lengths = [5 + 7 * number % 60 for number in range(120)]
    assert set(await asyncio.gather(*map(one, lengths))) == {200}
    flood = await asyncio.gather(*(post_chat(sidecar, body(120)) for _ in range(3 * QUEUE)))
    assert {status for status, _, _ in flood} == {200, 429}
    assert (await post_chat(sidecar, body(5, max_tokens=-1)))[0] == 400


async def _streamed(sidecar: SidecarProcess, asked: dict[str, Any]) -> int:
    """Read a stream to its end; the status."""
    url = f"{sidecar.http}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=asked) as response:
        await response.read()
        return response.status


async def _evicted_and_cancelled(sidecar: SidecarProcess) -> None:
    long = [asyncio.create_task(post_chat(sidecar, body(200))) for _ in range(SLOTS)]
    await asyncio.to_thread(sidecar.await_status, "all slots run", in_flight_slots=SLOTS)
    gone = asyncio.create_task(post_chat(sidecar, body(5)))
    await asyncio.to_thread(sidecar.await_status, "one waits", queued_requests=1)
    gone.cancel()
    status, _, answer = await post_chat(sidecar, body(5), {"x-request-timeout-ms": "150"})
    # Refused at once where service times are known already, evicted where they are not.
    assert status in (429, 504), answer
    await asyncio.gather(*long)
    with contextlib.suppress(asyncio.CancelledError):
        await gone


async def asleep(prometheus: Prometheus) -> None:
    """A service that sleeps: two requests are held, one leaves, then a replica comes."""
    async with bench() as sleeping:
        prometheus.scrape(
            "activator-0", address_of(sleeping.ops), job="activator", namespace="system"
        )

        async def ask() -> int:
            async with sleeping.session.post(sleeping.http + CHAT, data=b"{}") as response:
                await response.read()
                return response.status

        # Twice: a counter that is new has no rate before its second sample.
        for _ in range(2):
            asking = [asyncio.create_task(ask()) for _ in range(_HELD)]
            await until(lambda: sleeping.held() == _HELD)
            await asyncio.sleep(2.5)  # Prometheus looks every second
            replica = FakeReplica()
            async with replica.running() as address:
                sleeping.operator.tell("chat", address)
                assert await asyncio.gather(*asking) == [200] * _HELD
                sleeping.operator.tell("chat")
        await asyncio.sleep(2.5)


def reconciled(view: View) -> None:
    """Three services: pods of one are ready, one is suspended, of one no status can be written."""
    view.kubectl("apply", "-f", "-", stdin=_REFUSAL)
    view.apply_all({"made": {}, "idle": {"suspend": True}, "refused": {"suspend": True}})
    eventually(lambda: make_all_ready(view, _NO_SIDECAR) > 0)
    # The API server takes a moment to enforce a new policy.
    eventually(lambda: _is_refused(view))
    trouble(view)


def trouble(view: View) -> None:
    """A change that the operator cannot write the outcome of: its look fails, again and again."""
    wanted = view.get("llmsvc/refused")["metadata"]["generation"] % 7 + 1
    view.patch("llmsvc/refused", {"spec": {"replicas": wanted}})


def _is_refused(view: View) -> bool:
    try:
        status = {"status": {"observedGeneration": time.monotonic_ns() // 10**9}}
        view.patch("llmsvc/refused", status, "--subresource=status")
    except subprocess.CalledProcessError as error:
        return "no status for it" in error.stderr
    return False


async def flood(sidecar: SidecarProcess, *, until_set: asyncio.Event) -> None:
    """More than it can take: long ones in all slots, a full queue, and refusals."""

    async def again_and_again(tokens: int) -> None:
        while not until_set.is_set():
            with contextlib.suppress(aiohttp.ClientError):  # its engine may be taken from it
                status, _, _ = await post_chat(sidecar, body(tokens))
                if status != 200:
                    await asyncio.sleep(0.1)

    clients = [again_and_again(900) for _ in range(SLOTS + QUEUE + 8)]
    await asyncio.gather(*clients)
