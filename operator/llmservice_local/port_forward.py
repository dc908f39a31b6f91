"""One HTTP request to a port inside a pod, through the API server's port forwarding.

The connection ends on the pod's own loopback, so it reaches ports that listen nowhere else and that
no NetworkPolicy opens. Protocol `v4.channel.k8s.io`: a data and an error channel for each port.
"""

from __future__ import annotations

import io
from http.client import HTTPException, HTTPResponse
from typing import Any, Final, cast

import aiohttp
from kubernetes.aio.stream import WsApiClient

PROTOCOL: Final = "v4.channel.k8s.io"
_DATA: Final = 0
_ERROR: Final = 1
_PORT_BYTES: Final = 2  # each channel begins with the number of its port
_LARGEST_BYTES: Final = 4 * 1024 * 1024  # a pod must not fill this program's memory


class ForwardError(Exception):
    """The port did not answer; the text says why."""


async def forwarded_get(
    api: WsApiClient, *, namespace: str, pod: str, port: int, path: str
) -> tuple[int, bytes]:
    """Status and body of `GET path`.

    Raises ForwardError, aiohttp.ClientError (WSServerHandshakeError: the API server's refusal).
    """
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    prepared = await cast("Any", api).param_serialize(  # the generated client is untyped
        "GET",
        f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward",
        query_params=[("ports", str(port))],
        header_params={"sec-websocket-protocol": PROTOCOL},
        auth_settings=["BearerToken"],
    )
    answer = await cast("Any", api).call_api(*prepared, _preload_content=False)
    async with answer.response as socket:
        await socket.send_bytes(bytes([_DATA]) + request.encode())
        return _parsed(await _received(socket))


async def _received(socket: aiohttp.ClientWebSocketResponse) -> bytes:
    """All that comes on the data channel until the pod closes. Raises ForwardError."""
    channels = {_DATA: bytearray(), _ERROR: bytearray()}
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channels.setdefault(message.data[0], bytearray()).extend(message.data[1:])
        error = bytes(channels[_ERROR][_PORT_BYTES:])
        if error:
            raise ForwardError(error.decode(errors="replace").strip())
        if len(channels[_DATA]) > _LARGEST_BYTES:
            raise ForwardError(f"more than {_LARGEST_BYTES} bytes")
        if _complete(bytes(channels[_DATA][_PORT_BYTES:])):
            break
    return bytes(channels[_DATA][_PORT_BYTES:])


def _complete(received: bytes) -> bool:
    """Whether the body is as long as its header says: some API servers leave the end untold."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


class _Received:
    """Bytes that http.client can read as if from a socket."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, mode: str) -> io.BytesIO:
        del mode
        return io.BytesIO(self._received)


def _parsed(received: bytes) -> tuple[int, bytes]:
    response = HTTPResponse(cast("Any", _Received(received)))
    try:
        response.begin()
        return response.status, response.read()
    except HTTPException as error:
        raise ForwardError(f"it ended without an answer ({type(error).__name__})") from error
