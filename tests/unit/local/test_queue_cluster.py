"""Queues read through port forwarding: all pods, some of them, and why there is none."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from fakes.pod_api import PodApi, kubeconfig, serving
from fakes.queue_views import BUSY
from llmservice_api.queue_view import QueueView
from llmservice_local.errors import CommandError
from llmservice_local.queue_cluster import cluster_source
from llmservice_local.queue_sources import Replica, UrlSource


@asynccontextmanager
async def sidecar(view: QueueView = BUSY, *, status: int = 200) -> AsyncGenerator[int]:
    """An admin port that tells this view."""

    async def queue(request: web.Request) -> web.Response:
        assert request.query["limit"] == "20"
        body = msgspec.json.encode(view)
        return web.Response(body=body, status=status, content_type="application/json")

    app = web.Application()
    app.router.add_get("/queue", queue)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def read(api: PodApi, directory: Path, *, within_s: float = 60.0) -> Sequence[Replica]:
    async with AsyncExitStack() as stack:
        path = await stack.enter_async_context(serving(api, directory))
        source = await stack.enter_async_context(
            cluster_source(
                "chat", namespace=None, context=None, kubeconfig=str(path), within_s=within_s
            )
        )
        return await source.read(20)


async def test_every_running_pod_is_asked_and_named(tmp_path: Path) -> None:
    async with sidecar() as first, sidecar() as second:
        api = PodApi({"chat-b": second, "chat-a": first, "chat-c": None}, {"chat-c": "Pending"})
        found = await read(api, tmp_path)
    assert found == [Replica(name="chat-a", view=BUSY), Replica(name="chat-b", view=BUSY)]
    assert api.asked == ["llmservice.dev/name=chat"]


async def test_pods_that_do_not_answer_are_told_beside_those_that_do(tmp_path: Path) -> None:
    async with sidecar() as good, sidecar(status=404) as old, sidecar(status=500) as broken:
        api = PodApi({"a": good, "b": None, "c": old, "d": broken})
        found = await read(api, tmp_path)
    assert found[0].view == BUSY
    assert [replica.error for replica in found[1:]] == [
        "connection refused",
        "it knows no /queue: an older sidecar",
        f"it answered 500: {msgspec.json.encode(BUSY)[:200].decode()}",
    ]


async def test_a_pod_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    api = PodApi({"a": 1}, silent=frozenset({"a"}))
    (replica,) = await read(api, tmp_path, within_s=0.2)
    assert replica.error == "no answer within 0.2 s"


async def test_without_the_right_to_forward_ports_that_is_said(tmp_path: Path) -> None:
    (replica,) = await read(PodApi({"a": 1}, forward_status=403), tmp_path)
    assert replica.forbidden
    assert "no right to forward ports of pods (403)" in replica.error


ASLEEP = {"status": {"conditions": [{"type": "Ready", "message": "asleep at zero replicas"}]}}


@pytest.mark.parametrize(
    ("api", "cause", "step"),
    [
        pytest.param(
            PodApi(),
            "there is no LLMService chat in namespace team",
            "kubectl get llmsvc -A",
            id="no service",
        ),
        pytest.param(
            PodApi(services={"chat": ASLEEP}),
            "no pod of LLMService chat in namespace team runs: asleep at zero replicas",
            "kubectl describe -n team llmsvc chat",
            id="no pod",
        ),
        pytest.param(
            PodApi({"a": 1}, pods_status=403),
            "no right to list pods in namespace team: pods is forbidden",
            "ClusterRole",
            id="no right to list",
        ),
        pytest.param(
            PodApi({"a": 1}, pods_status=500), "the API server answered 500", "kubectl", id="500"
        ),
    ],
)
async def test_nobody_to_ask_is_explained(
    tmp_path: Path, api: PodApi, cause: str, step: str
) -> None:
    with pytest.raises(CommandError) as failed:
        await read(api, tmp_path)
    assert failed.value.cause.startswith(cause)
    assert step in failed.value.next_step


async def test_an_api_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:9")
    async with cluster_source("chat", namespace=None, context=None, kubeconfig=str(path)) as source:
        with pytest.raises(CommandError, match=r"cannot reach the API server http://127.0.0.1:9"):
            await source.read(20)


@pytest.mark.parametrize(
    ("context", "said"), [("absent", "absent"), (None, "no-such-file")], ids=["context", "file"]
)
async def test_a_cluster_that_is_not_configured_is_named(
    tmp_path: Path, context: str | None, said: str
) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:9") if context else tmp_path / "no-such-file"
    with pytest.raises(CommandError, match=f"no cluster to ask: .*{said}") as failed:
        async with cluster_source("chat", namespace=None, context=context, kubeconfig=str(path)):
            pass
    assert "--url" in failed.value.next_step


async def test_one_sidecar_is_asked_by_its_address() -> None:
    async with sidecar() as port:
        (replica,) = await UrlSource(f"http://127.0.0.1:{port}/").read(20)
    assert replica == Replica(name=f"127.0.0.1:{port}", view=BUSY)


async def test_an_address_that_is_no_admin_port_is_named() -> None:
    async with sidecar(status=404) as port:
        with pytest.raises(CommandError, match=f"127.0.0.1:{port}: it knows no /queue") as failed:
            await UrlSource(f"http://127.0.0.1:{port}").read(20)
    assert "9091" in failed.value.next_step
    with pytest.raises(CommandError, match=r"cannot read the queue of http://127.0.0.1:9"):
        await UrlSource("http://127.0.0.1:9").read(20)
    with pytest.raises(CommandError, match=r"--url is '127.0.0.1:9091'; it must be like"):
        UrlSource("127.0.0.1:9091")
