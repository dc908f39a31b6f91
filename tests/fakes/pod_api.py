"""The part of an API server that `llmservice queue` uses, with ports of this machine as pods'.

Port forwarding is the real protocol (v4.channel.k8s.io) in front of real TCP connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import WSMsgType, web

POD = "/api/v1/namespaces/{namespace}/pods"
SERVICE = "/apis/llmservice.dev/v1alpha1/namespaces/{namespace}/llmservices/{name}"


@dataclass
class PodApi:
    """Pods by name with the port that stands for their admin port; None: it is refused there.

    `pods_status` and `forward_status` other than 200 are what these calls are refused with.
    """

    pods: dict[str, int | None] = field(default_factory=dict[str, int | None])
    phases: dict[str, str] = field(default_factory=dict[str, str])
    services: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    pods_status: int = 200
    forward_status: int = 200
    silent: frozenset[str] = frozenset()  # take the connection and say nothing
    asked: list[str] = field(default_factory=list[str])  # label selectors

    async def list_pods(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["labelSelector"])
        if self.pods_status != 200:
            text = 'pods is forbidden: User "ada" cannot list resource "pods"'
            return web.json_response({"message": text}, status=self.pods_status)
        items = [
            {"metadata": {"name": name}, "status": {"phase": self.phases.get(name, "Running")}}
            for name in self.pods
        ]
        return web.json_response({"items": items})

    async def get_service(self, request: web.Request) -> web.Response:
        found = self.services.get(request.match_info["name"])
        if found is None:
            return web.json_response({"message": "not found"}, status=404)
        return web.json_response(found)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        if self.forward_status != 200:
            return web.json_response({"message": "forbidden"}, status=self.forward_status)
        assert request.query["ports"] == "9091"
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        number = (9091).to_bytes(2, "little")
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + number)
        name = request.match_info["pod"]
        port = self.pods[name]
        if name in self.silent:
            await socket.receive()
            await asyncio.Event().wait()
        if port is None:
            await socket.send_bytes(b"\x01connection refused")
        else:
            await _bridge(socket, port)
        await socket.close()
        return socket


async def _bridge(socket: web.WebSocketResponse, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    message = await socket.receive()
    assert message.type is WSMsgType.BINARY
    assert message.data[:1] == b"\x00"
    writer.write(message.data[1:])
    while piece := await reader.read(700):  # several frames for one answer
        await socket.send_bytes(b"\x00" + piece)
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def serving(api: PodApi, directory: Path) -> AsyncGenerator[Path]:
    """Serve it; the kubeconfig whose context has the namespace `team`."""
    app = web.Application()
    app.router.add_get(POD, api.list_pods)
    app.router.add_get(f"{POD}/{{pod}}/portforward", api.forward)
    app.router.add_get(SERVICE, api.get_service)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield kubeconfig(directory, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


def kubeconfig(directory: Path, server: str) -> Path:
    """A kubeconfig for this server, without credentials."""
    path = directory / "kubeconfig"
    context = {"cluster": "c", "user": "u", "namespace": "team"}
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": context}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path
