"""An engine that quotes the prompt wherever it can: in errors, in broken HTTP, in broken streams.

What no real engine does when asked to. Each request gets the next of its ways to answer.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, Self

_JSON: Final = b"content-type: application/json\r\n"
_EVENTS: Final = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"


def _whole(status: bytes, body: bytes, kind: bytes = _JSON) -> bytes:
    length = b"content-length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + kind + length + b"connection: close\r\n\r\n" + body


def _stream(*parts: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\n" + _EVENTS + b"connection: close\r\n\r\n" + chunks


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _ways(prompt: str) -> list[bytes]:
    quoted = prompt.encode()
    error = {"error": {"message": f"I do not understand {prompt}", "code": 400, "param": prompt}}
    first = _event({"choices": [{"index": 0, "text": prompt, "delta": {"content": prompt}}]})
    odd = _event({"choices": [{"index": 0, "text": prompt, "finish_reason": prompt}]})
    return [
        _whole(b"400 Bad Request", json.dumps(error).encode()),
        _whole(b"500 Internal Server Error", quoted, b"content-type: text/plain\r\n"),
        _whole(b"200 OK", b"{" + quoted),
        b"HTTP/1.1 " + quoted + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + quoted + b"\r\n\r\n",
        quoted + b"\r\n\r\n",
        _whole(b"502 " + quoted, quoted, b"content-type: " + quoted + b"\r\n"),
        _stream(first, _event(error)) + b"0\r\n\r\n",
        _stream(first) + quoted + b"\r\n" + quoted,
        _stream(first, odd, b"data: " + quoted + b"\n\n", b"data: [DONE]\n\n") + b"0\r\n\r\n",
        _stream(first),
        b"",
    ]


class QuotingEngine:
    """Listens on loopback while its `async with` block lasts."""

    async def __aenter__(self) -> Self:
        self.asked = 0
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _content_length(head)
            body = await reader.readexactly(length)
            if head.startswith(b"POST"):
                self.asked += 1
                writer.write(_ways(_prompt(body))[self.asked % len(_ways(""))])
            else:
                writer.write(_whole(b"200 OK", b""))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sidecar has left, which it may
        finally:
            writer.close()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return 0


def _prompt(body: bytes) -> str:
    asked = json.loads(body)
    said = asked.get("prompt") or asked.get("input") or asked["messages"][0]["content"]
    return said if isinstance(said, str) else json.dumps(said)
