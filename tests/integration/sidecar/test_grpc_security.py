"""Keys and TLS at the gRPC door: a real client, a real server, Secrets as a kubelet mounts them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from fakes.certificates import ServerPair, server_pair
from fakes.mounted import MountedFiles
from fakes.pipeline import ScriptedAnswer, ScriptedPipeline
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from integration.sidecar.grpc_doors import ANSWER, REQUEST, OpenDoor, answered, door
from llmservice_api.sidecar_config import SecurityConfig
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb
from llmservice_sidecar.wire.llmservice.inference.v1alpha1.inference_pb2_grpc import (
    InferenceServiceStub,
)

SEARCH = (("authorization", "Bearer key-of-search"),)


@pytest.fixture
def keys(tmp_path: Path) -> MountedFiles:
    return MountedFiles(tmp_path / "keys", {"search": b"key-of-search\n", "batch": b"key-of-batch"})


def asks_for(keys: MountedFiles) -> SecurityConfig:
    return SecurityConfig(api_keys_dir=str(keys.directory))


def speaks(tls: MountedFiles) -> SecurityConfig:
    return SecurityConfig(tls_dir=str(tls.directory))


@asynccontextmanager
async def trusting(opened: OpenDoor, pair: ServerPair) -> AsyncGenerator[Any]:
    credentials = grpc.ssl_channel_credentials(pair.authority)
    options = (("grpc.use_local_subchannel_pool", 1),)  # a connection of its own
    target = f"localhost:{opened.port}"
    async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
        yield InferenceServiceStub(channel)


async def collected(stub: Any, **more: Any) -> list[pb.GenerateResponse]:
    return [message async for message in stub.Generate(REQUEST, timeout=20, **more)]


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


async def test_the_tenant_is_the_name_of_the_key_whatever_the_header_says(
    keys: MountedFiles,
) -> None:
    pipeline = answered()
    async with door(pipeline, security=asks_for(keys)) as opened:
        await collected(opened.stub, metadata=(*SEARCH, ("x-tenant", "somebody-else")))
    assert [call.tenant for call in pipeline.calls] == ["search"]


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer key-of-nobody"),),
        (("authorization", "Bearer "),),
        (("authorization", "Basic key-of-search"),),
        (("x-api-key", "key-of-search"),),
    ],
    ids=["none", "unknown", "empty", "another scheme", "another header"],
)
async def test_without_a_known_key_no_method_is_served(
    keys: MountedFiles, metadata: tuple[tuple[str, str], ...]
) -> None:
    pipeline = answered()
    async with door(pipeline, security=asks_for(keys)) as opened:
        stub = opened.stub
        codes = [
            await code_of(collected(stub, metadata=metadata)),
            await code_of(stub.GetQueue(pb.GetQueueRequest(), metadata=metadata)),
            await code_of(stub.Predict(pb.PredictRequest(request=REQUEST), metadata=metadata)),
            await code_of(anext(aiter(stub.WatchQueue(pb.WatchQueueRequest(), metadata=metadata)))),
            await code_of(reflected(opened, metadata)),
        ]
        refused = opened.security.report().unauthenticated
    assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
    assert refused == len(codes)
    assert pipeline.calls == []


async def reflected(opened: OpenDoor, metadata: Any) -> Any:
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    channel: Any = opened.channel
    stub: Any = ServerReflectionStub(channel)
    return await anext(aiter(stub.ServerReflectionInfo(iter([asked]), metadata=metadata)))


async def test_health_needs_no_key_and_reflection_takes_one(keys: MountedFiles) -> None:
    async with door(answered(), security=asks_for(keys)) as opened:
        stub: Any = HealthStub(opened.channel)
        health = await stub.Check(health_pb2.HealthCheckRequest())
        services = await reflected(opened, SEARCH)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert len(services.list_services_response.service) == 3


async def test_new_keys_are_known_and_old_ones_are_not_without_a_restart(
    keys: MountedFiles,
) -> None:
    async with door(answered(), security=asks_for(keys)) as opened:
        keys.put({"search": b"second-key-of-search"})
        opened.security.look()
        fresh = (("authorization", "Bearer second-key-of-search"),)
        assert await served(opened, fresh) is grpc.StatusCode.OK
        assert await served(opened, SEARCH) is grpc.StatusCode.UNAUTHENTICATED


async def served(opened: OpenDoor, metadata: Any) -> grpc.StatusCode:
    call = opened.stub.GetQueue(pb.GetQueueRequest(), metadata=metadata)
    return await call.code()


async def test_a_new_pair_is_shown_to_new_connections_and_ends_no_stream(tmp_path: Path) -> None:
    old, new = server_pair(), server_pair()
    mounted = MountedFiles(tmp_path / "tls", old.files)
    answer = ScriptedAnswer(ANSWER)  # told in full, and then it waits for `go_on`
    async with (
        door(ScriptedPipeline(answer), security=speaks(mounted)) as opened,
        trusting(opened, old) as before,
    ):
        stream = aiter(before.Generate(REQUEST, timeout=20))
        first = await anext(stream)
        mounted.put(new.files)
        opened.security.look()
        async with trusting(opened, new) as after:
            assert await after.GetQueue(pb.GetQueueRequest(), timeout=20)
        async with trusting(opened, old) as stale:
            code = await code_of(stale.GetQueue(pb.GetQueueRequest(), timeout=20))
        answer.go_on.set()
        rest = [message async for message in stream]
    assert first.delta.text == "upon"
    assert rest[-1].HasField("finished")
    assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("broken", ["another key", "no PEM", "no key"])
async def test_a_broken_pair_leaves_the_old_one_and_says_so(tmp_path: Path, broken: str) -> None:
    old, new = server_pair(), server_pair()
    mounted = MountedFiles(tmp_path / "tls", old.files)
    files = {
        "another key": {"tls.crt": new.certificate, "tls.key": old.key},
        "no PEM": {"tls.crt": b"none", "tls.key": b"none"},
        "no key": {"tls.crt": new.certificate},
    }[broken]
    async with door(answered(), security=speaks(mounted)) as opened:
        mounted.put(files)
        opened.security.look()
        async with trusting(opened, old) as stub:
            assert await collected(stub)
        told = opened.security.report().tls_error
        mounted.put(new.files)
        opened.security.look()
        async with trusting(opened, new) as stub:
            assert await collected(stub)
        assert opened.security.report().tls_error == ""
    assert "tls.key" in told
    assert told.endswith("what was there before stays in use")


async def test_the_door_speaks_h2_over_tls_of_1_2_or_later(tmp_path: Path) -> None:
    pair = server_pair()
    mounted = MountedFiles(tmp_path / "tls", pair.files)
    async with door(answered(), security=speaks(mounted)) as opened:
        client = ssl.create_default_context(cadata=pair.authority.decode())
        client.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("localhost", opened.port, ssl=client)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        writer.close()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("DEFAULT@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("localhost", opened.port, ssl=old)
