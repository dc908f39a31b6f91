"""A real sidecar with keys and TLS in front of a real vLLM; real clients, Secrets that rotate."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx2
import msgspec
import openai
import pytest
from fakes.certificates import server_pair
from fakes.mounted import MountedFiles
from fakes.otlp_receiver import OtlpReceiver
from integration.sidecar.clients import ClientTrace, chat_body, generate_request
from integration.sidecar.conftest import static_config
from integration.sidecar.running import SidecarProcess
from integration.sidecar.secured import (
    CHAT,
    KEY,
    KEYS,
    Secured,
    client,
    listening_engine,
    trust,
)
from llmservice_api.sidecar_config import (
    EngineConfig,
    ListenConfig,
    LiveConfig,
    ModelConfig,
    SecurityConfig,
    StaticConfig,
    encode_config,
)
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)


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
    before = (await asyncio.to_thread(secured.process.status)).security.unauthenticated
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
    assert report.security.unauthenticated == before + 8
    page = await asyncio.to_thread(secured.process.get, "/metrics")
    assert f"llmservice_unauthenticated_requests_total {before + 8}.0".encode() in page


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


async def test_a_client_that_leaves_over_tls_frees_its_slot(secured: Secured) -> None:
    async with client(secured.pair) as search:
        body = chat_body(1500, stream=True, max_tokens=1500)
        response = await search.post(secured.url + CHAT, json=body)
        assert await response.content.readline()
        await asyncio.to_thread(secured.process.await_status, "it runs", in_flight_slots=1)
        response.close()
    await asyncio.to_thread(secured.process.await_status, "it has left", in_flight_slots=0)


async def test_the_key_never_reaches_the_engine(tmp_path: Path) -> None:
    seen: list[str] = []
    pair = server_pair()
    keys, tls = MountedFiles(tmp_path / "keys", KEYS), MountedFiles(tmp_path / "tls", pair.files)
    async with listening_engine(seen) as url, client(pair) as search:
        static = StaticConfig(
            service="chat",
            namespace="team",
            model=ModelConfig(name="tiny"),
            engine=EngineConfig(url=url),
            listen=ListenConfig(
                host="127.0.0.1", http_port=0, grpc_port=0, ops_port=0, admin_port=0
            ),
            security=SecurityConfig(api_keys_dir=str(keys.directory), tls_dir=str(tls.directory)),
        )
        process = SidecarProcess(static, tmp_path / "sidecar")
        await asyncio.to_thread(process.__enter__)
        try:
            door = f"https://localhost:{process.ports.http_port}"
            body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
            for path, data in (("/v1/completions", body), ("/tokenize", {"prompt": "a"})):
                async with search.post(door + path, json=data) as response:
                    assert response.status == 200
            async with search.get(f"{door}/v1/models") as response:
                assert response.status == 200
        finally:
            await asyncio.to_thread(process.__exit__, None, None, None)
    assert any(header.startswith("Host:") for header in seen)
    assert not [header for header in seen if "canary-of" in header or "authorization" in header]


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
    mounted = MountedFiles(tmp_path / "keys", keys)
    security = SecurityConfig(api_keys_dir=str(mounted.directory), tls_dir=str(tls.directory))
    config = msgspec.structs.replace(static_config(engine_latency, otlp), security=security)
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
