"""A sidecar with keys and TLS, its clients, and what its Secrets hold."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import httpx2
from aiohttp import web
from fakes.certificates import ServerPair
from fakes.mounted import MountedFiles
from integration.sidecar.running import SidecarProcess

KEY = "sk-4711-canary-of-search"
KEYS = {"search": f"{KEY}\n".encode(), "batch": b"sk-4712-canary-of-batch"}
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Secured:
    """A sidecar that asks for keys over TLS, and what its Secrets hold."""

    process: SidecarProcess
    keys: MountedFiles
    tls: MountedFiles
    pairs: list[ServerPair]  # of one authority; the first is mounted

    @property
    def pair(self) -> ServerPair:
        return self.pairs[0]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.process.ports.http_port}"

    def refused(self, secret: str) -> float:
        """The gauge of a Secret that is not in use as a whole."""
        name = f'llmservice_secret_refused{{secret="{secret}"}} '
        page = self.process.get("/metrics").decode()
        return next(float(line[len(name) :]) for line in page.splitlines() if name in line)


def trust(pair: ServerPair) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pair.authority.decode())


@asynccontextmanager
async def client(pair: ServerPair, *, key: str = KEY) -> AsyncGenerator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=trust(pair), limit=0)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield session


async def eventually(look: Callable[[], object]) -> None:
    """The kubelet's swap is polled: nobody could tell a test when it has been seen."""
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(look):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.05)


def answers(secured: Secured, key: str) -> bool:
    """Whether the key is known by now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with httpx2.Client(verify=context, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {key}"}
        return http.get(f"{secured.url}/v1/models", headers=headers).status_code == 200


@asynccontextmanager
async def listening_engine(seen: list[str]) -> AsyncGenerator[str]:
    """An engine that writes down every header it is sent."""

    async def answer(request: web.Request) -> web.Response:
        seen.extend(f"{name}: {value}" for name, value in request.headers.items())
        return web.json_response({"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
