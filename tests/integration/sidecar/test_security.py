"""A real sidecar with keys and TLS in front of a real vLLM; real clients, Secrets that rotate."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import httpx2
import msgspec
import openai
import pytest
from fakes.certificates import ServerPair, server_pair, server_pairs
from fakes.mounted import MountedFiles
from fakes.otlp_receiver import OtlpReceiver
from integration.sidecar.clients import ClientTrace, chat_body, generate_request
from integration.sidecar.conftest import static_config
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import LiveConfig, SecurityConfig, StaticConfig, encode_config
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)

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


def secured_config(
    engine: EngineProcess, otlp: OtlpReceiver, keys: MountedFiles, tls: MountedFiles
) -> StaticConfig:
    security = SecurityConfig(api_keys_dir=str(keys.directory), tls_dir=str(tls.directory))
    return msgspec.structs.replace(static_config(engine, otlp), security=security)


@pytest.fixture
def secured(engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path: Path) -> Iterator[Secured]:
    pairs = server_pairs(5)
    keys = MountedFiles(tmp_path / "keys", KEYS)
    tls = MountedFiles(tmp_path / "tls", pairs[0].files)
    config = secured_config(engine_latency, otlp, keys, tls)
    with SidecarProcess(config, tmp_path / "sidecar", LiveConfig()) as process:
        yield Secured(process, keys, tls, pairs)


def trust(pair: ServerPair) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pair.authority.decode())


@asynccontextmanager
async def client(pair: ServerPair, *, key: str = KEY) -> AsyncGenerator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=trust(pair), limit=0)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield session


async def eventually(look: Any) -> None:
    """The kubelet's swap is polled: nobody could tell a test when it has been seen."""
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(look):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.05)


def test_the_official_client_with_a_key_and_with_a_wrong_one(secured: Secured) -> None:
    def official(key: str) -> openai.OpenAI:
        http = httpx2.Client(verify=trust(secured.pair), trust_env=False)
        url = f"{secured.url}/v1"
        return openai.OpenAI(base_url=url, api_key=key, max_retries=0, http_client=http)

    with official(KEY) as known:
        stream = known.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            extra_body={"vllm_xargs": {"out_len": 5}},
        )
        assert sum(1 for chunk in stream if chunk.choices) >= 5
        assert [model.id for model in known.models.list()] == ["tiny"]
    with official("sk-wrong") as unknown, pytest.raises(openai.AuthenticationError) as refused:
        unknown.models.list()
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")
    assert refused.value.response.headers["www-authenticate"] == "Bearer"
    assert "sk-wrong" not in refused.value.message


async def test_only_health_and_metrics_are_open_and_no_path_is_an_admins(secured: Secured) -> None:
    admins = ("/drain", "/status", "/healthz", "/readyz", "/predictor/statistics", "/none")
    asked = dict.fromkeys(admins, (401, 404))
    asked |= {"/v1/models": (401, 200), "/health": (200, 200), "/metrics": (200, 200)}
    async with client(secured.pair, key="") as nobody, client(secured.pair) as search:
        for path, (without, with_key) in asked.items():
            for session, status in ((nobody, without), (search, with_key)):
                async with session.get(secured.url + path) as response:
                    assert (path, response.status) == (path, status)
        async with nobody.post(secured.url + CHAT, json=chat_body(2)) as response:
            assert response.status == 401
            assert (await response.json())["error"]["code"] == "invalid_api_key"
    report = await asyncio.to_thread(secured.process.status)
    assert report.security.api_keys == 2
    assert report.security.unauthenticated == 8
    page = await asyncio.to_thread(secured.process.get, "/metrics")
    assert b"llmservice_unauthenticated_requests_total 8.0" in page


async def test_the_tenant_in_the_trace_is_the_name_of_the_key(
    secured: Secured, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    claimed = {"x-gateway-inference-fairness-id": "somebody-else", **trace.headers}
    async with (
        client(secured.pair) as search,
        search.post(secured.url + CHAT, json=chat_body(2), headers=claimed) as response,
    ):
        assert response.status == 200
    door = f"POST {CHAT}"
    spans = await asyncio.to_thread(otlp.wait_for_trace, trace.id, (door,))
    assert spans[door].attributes["llmservice.tenant"] == "search"


async def test_the_grpc_door_has_the_same_keys_and_the_same_certificate(secured: Secured) -> None:
    credentials = grpc.ssl_channel_credentials(secured.pair.authority)
    target = f"localhost:{secured.process.ports.grpc_port}"
    async with grpc.aio.secure_channel(target, credentials) as channel:
        stub: Any = InferenceServiceStub(channel)
        known = (("authorization", f"Bearer {KEY}"),)
        answer = [m async for m in stub.Generate(generate_request(4), metadata=known)]
        assert answer[-1].finished.usage.completion_tokens == 4
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Generate(generate_request(4)).read()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@dataclass
class Load:
    """Streams one after the other, each on a connection of its own; counts how they end."""

    url: str
    pair: ServerPair
    keys: list[str]
    whole: int = 0
    lost: int = 0

    async def run(self, until: asyncio.Event) -> None:
        context = trust(self.pair)
        while not until.is_set():
            headers = {"Authorization": f"Bearer {self.keys[-1]}"}
            connector = aiohttp.TCPConnector(ssl=context, force_close=True)
            async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
                await self._one(session)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        body = chat_body(4, stream=True)
        try:
            async with session.post(self.url + CHAT, json=body) as response:
                complete = (await response.read()).endswith(b"data: [DONE]\n\n")
                self.whole += complete and response.status == 200
                self.lost += not complete or response.status != 200
        except aiohttp.ClientError:
            self.lost += 1


async def test_rotation_under_load_loses_nothing(secured: Secured) -> None:
    load = Load(secured.url, secured.pair, [KEY])
    done = asyncio.Event()
    async with client(secured.pair) as session:
        long_stream = asyncio.create_task(streamed(session, secured.url, out_len=1500))
        users = [asyncio.create_task(load.run(done)) for _ in range(3)]
        for turn, pair in enumerate(secured.pairs[1:]):
            fresh = f"sk-{turn}-rotated"
            # As a person rotates: the new key beside the old one, then everybody moves.
            secured.keys.put({"search": load.keys[-1].encode(), "search-new": fresh.encode()})
            secured.tls.put(pair.files)
            await eventually(lambda key=fresh: answers(secured, key))
            await eventually(lambda now=pair: shown(secured) == certificate(now))
            load.keys.append(fresh)
        done.set()
        await asyncio.gather(*users)
        chunks = await long_stream
    assert chunks.endswith(b"data: [DONE]\n\n")
    assert load.lost == 0
    assert load.whole > 20
    report = (await asyncio.to_thread(secured.process.status)).security
    assert (report.tls_error, report.api_keys_error, report.api_keys) == ("", "", 2)


async def streamed(session: aiohttp.ClientSession, url: str, *, out_len: int) -> bytes:
    body = chat_body(out_len, stream=True, max_tokens=out_len)
    async with session.post(url + CHAT, json=body) as response:
        assert response.status == 200
        return await response.read()


def shown(secured: Secured) -> bytes:
    """The certificate that a new connection is shown."""
    address = ("localhost", secured.process.ports.http_port)
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(address))


def certificate(pair: ServerPair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


def answers(secured: Secured, key: str) -> bool:
    """Whether the key is known by now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with httpx2.Client(verify=context, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {key}"}
        return http.get(f"{secured.url}/v1/models", headers=headers).status_code == 200


async def test_a_broken_pair_keeps_the_old_one_and_is_told(secured: Secured) -> None:
    broken = {"tls.crt": secured.pair.certificate, "tls.key": server_pair().key}
    secured.tls.put(broken)
    await eventually(lambda: secured.process.status().security.tls_error)
    assert secured.refused("tls") == 1.0
    async with client(secured.pair) as search, search.get(f"{secured.url}/v1/models") as response:
        assert response.status == 200
    secured.tls.put(secured.pair.files)
    await eventually(lambda: not secured.process.status().security.tls_error)
    assert secured.refused("tls") == 0.0


async def test_what_is_no_key_is_named_and_the_others_serve(secured: Secured) -> None:
    secured.keys.put(KEYS | {"empty": b"", "other": KEYS["batch"]})
    await eventually(lambda: secured.process.status().security.api_keys_error)
    report = secured.process.status().security
    assert report.api_keys == 2
    assert "entry empty is empty" in report.api_keys_error
    assert "entry other has the key of batch" in report.api_keys_error
    assert secured.refused("api_keys") == 1.0
    assert answers(secured, KEY)


async def test_keys_appear_in_no_log_span_metric_or_status(
    secured: Secured, otlp: OtlpReceiver
) -> None:
    trace = ClientTrace()
    async with (
        client(secured.pair) as search,
        search.post(secured.url + CHAT, json=chat_body(2), headers=trace.headers) as response,
    ):
        assert response.status == 200
    for broken in (f"GET / HTTP/1.1\r\nAuthorization: Bearer {KEY}\x00\r\n\r\n", f"{KEY} / x\r\n"):
        await asyncio.to_thread(sent, secured, broken.encode())
    await asyncio.to_thread(otlp.wait_for_trace, trace.id, (f"POST {CHAT}",))
    told = await asyncio.to_thread(
        lambda: [
            secured.process.get("/metrics"),
            secured.process.get("/status"),
            secured.process.log().encode(),
        ]
    )
    assert all(b"canary-of-" not in page for page in (*told, *otlp.raw))


def sent(secured: Secured, data: bytes) -> None:
    """Bytes that are no HTTP, as a client that is broken sends them."""
    address = ("localhost", secured.process.ports.http_port)
    with (
        socket.create_connection(address, timeout=10) as plain,
        trust(secured.pair).wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(data)
        assert tls.recv(100).startswith(b"HTTP/1.")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "spec.security.apiKeySecretRef: no usable API key"),
        ({"search": b"\n"}, "spec.security.apiKeySecretRef: entry search is empty"),
    ],
    ids=["no entry", "an empty entry"],
)
def test_a_secret_without_a_key_ends_the_start_with_the_reason(
    engine_latency: EngineProcess,
    otlp: OtlpReceiver,
    tmp_path: Path,
    keys: dict[str, bytes],
    said: str,
) -> None:
    tls = MountedFiles(tmp_path / "tls", server_pair().files)
    config = secured_config(engine_latency, otlp, MountedFiles(tmp_path / "keys", keys), tls)
    (tmp_path / "static.json").write_text(encode_config(config))
    (tmp_path / "live.json").write_text(encode_config(LiveConfig()))
    ended = subprocess.run(
        [sys.executable, "-m", "llmservice_sidecar", "--config-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert said in ended.stderr.splitlines()[-1]
    assert json.loads(encode_config(config))["security"]["tls_dir"] == str(tls.directory)
