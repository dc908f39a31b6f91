"""Open-loop load: requests leave at their recorded times, whatever the answers do.

A generator that waits for answers hides queueing, because a slow server then gets fewer requests.
Times are read from one monotonic clock; every latency counts from the moment the request was *due*.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Self, TypeVar, cast

import aiohttp

_T = TypeVar("_T")
Clock = Callable[[], float]

# Longer than an SSE event with usage, far shorter than an answer.
_TAIL_BYTES: Final = 8192
_DATA: Final = b"data: "
QUEUE_HEADER: Final = "x-llmservice-queue-ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to send: its body, the trace it belongs to, and headers of its own."""

    path: str
    body: Mapping[str, object]
    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What became of one request; times are seconds on the generator's clock.

    `first_s` is the first event of the answer (None when there was none), `queue_wait_s` what the
    server reported. `error` is empty exactly when the request completed.
    """

    due_s: float
    sent_s: float
    first_s: float | None
    done_s: float
    status: int
    output_tokens: int
    prompt_tokens: int
    queue_wait_s: float | None
    trace_id: str
    span_id: str
    error: str = ""

    @property
    def completed(self) -> bool:
        """The whole answer arrived."""
        return not self.error


@dataclass(slots=True)
class _Reading:
    """What is kept of an answer while it streams: the first event's time and the last bytes."""

    first_s: float | None = None
    tail: bytes = b""
    usage: dict[str, int] = field(default_factory=dict[str, int])
    error: str = ""
    finished: bool = False


class LoadClient:
    """Sends streaming requests to one OpenAI server; never retries.

    Use as an async context manager. `timeout_s` bounds one request from sending to its last byte.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.target = target  # base URL; may be set anew between requests
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._headers = dict(headers or {})
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No limit: a pool that queues would be a second queue in front of the one we measure.
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, headers=self._headers
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> dict[str, object]:
        """The JSON object at `path`. Raises aiohttp.ClientError or ValueError."""
        async with self._open().get(self._url(path)) as response:
            response.raise_for_status()
            return cast("dict[str, object]", await response.json(content_type=None))

    async def post(self, path: str, body: Mapping[str, object]) -> tuple[int, dict[str, object]]:
        """Status and JSON object of one plain request. Raises aiohttp.ClientError or ValueError."""
        async with self._open().post(self._url(path), json=body) as response:
            return response.status, cast("dict[str, object]", await response.json())

    async def send(self, call: Call, *, due_s: float) -> Reply:
        """Send one request and read its stream to the end; failures become `Reply.error`."""
        reading = _Reading()
        status, queue_wait_s = 0, None
        sent_s = self._clock()
        try:
            async with self._open().post(
                self._url(call.path),
                data=json.dumps(call.body).encode(),
                headers={
                    "Content-Type": "application/json",
                    "traceparent": f"00-{call.trace_id}-{call.span_id}-01",
                    **call.headers,
                },
            ) as response:
                status = response.status
                queue_wait_s = _milliseconds(response.headers.get(QUEUE_HEADER))
                await self._read(response, reading)
        except TimeoutError:
            reading.error = f"no complete answer within {self._timeout.total:g} s"
        except aiohttp.ClientError as error:
            reading.error = f"{type(error).__name__}: {error}"
        return Reply(
            due_s=due_s,
            sent_s=sent_s,
            first_s=reading.first_s,
            done_s=self._clock(),
            status=status,
            output_tokens=reading.usage.get("completion_tokens", 0),
            prompt_tokens=reading.usage.get("prompt_tokens", 0),
            queue_wait_s=queue_wait_s,
            trace_id=call.trace_id,
            span_id=call.span_id,
            error=reading.error,
        )

    async def _read(self, response: aiohttp.ClientResponse, reading: _Reading) -> None:
        async for chunk in response.content.iter_any():
            if reading.first_s is None:
                reading.first_s = self._clock()
            # Events are not parsed while they arrive: the generator must stay light.
            reading.tail = (reading.tail + chunk)[-_TAIL_BYTES:]
        if response.status != 200:
            reading.error = f"HTTP {response.status}: {_message(reading.tail)}"
            return
        _parse_tail(reading)
        if not reading.error and not reading.finished:
            reading.error = "the stream ended before [DONE]"

    def _url(self, path: str) -> str:
        return f"{self.target.rstrip('/')}{path}"

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("LoadClient is not open: use it as an async context manager")
        return self._session


async def replay(
    arrivals_s: Sequence[float],
    send: Callable[[int, float], Awaitable[_T]],
    *,
    clock: Clock = time.monotonic,
) -> list[_T]:
    """Call `send(index, due_s)` at each arrival, counted from now; its results in arrival order.

    Never slowed by a `send` that takes long. `arrivals_s` must ascend (ValueError).
    """
    if any(later < earlier for earlier, later in pairwise(arrivals_s)):
        raise ValueError("arrivals must ascend: sort the workload by arrival_s")
    start_s = clock()
    tasks: list[asyncio.Task[_T]] = []
    async with asyncio.TaskGroup() as group:
        for index, arrival_s in enumerate(arrivals_s):
            # Against the start, not against the previous arrival: lateness never adds up.
            if (wait_s := start_s + arrival_s - clock()) > 0:
                await asyncio.sleep(wait_s)
            tasks.append(group.create_task(_started(send, index, start_s + arrival_s)))
    return [task.result() for task in tasks]


async def _started(send: Callable[[int, float], Awaitable[_T]], index: int, due_s: float) -> _T:
    return await send(index, due_s)


def _milliseconds(header: str | None) -> float | None:
    return None if header is None else float(header) / 1e3


def _parse_tail(reading: _Reading) -> None:
    for line in reading.tail.split(b"\n"):
        payload = line.strip().removeprefix(_DATA)
        if payload == b"[DONE]":
            reading.finished = True
        elif b'"usage"' in payload or b'"error"' in payload:
            _take_event(payload, reading)


def _take_event(payload: bytes, reading: _Reading) -> None:
    if not (payload.startswith(b"{") and payload.endswith(b"}")):
        return  # the first line of the tail may be the end of an event
    event = cast("dict[str, object]", json.loads(payload))
    if event.get("error"):
        reading.error = f"error in the stream: {_message(payload)}"
    usage = event.get("usage")
    if isinstance(usage, dict):
        counts = cast("dict[str, object]", usage)
        reading.usage = {name: value for name, value in counts.items() if isinstance(value, int)}


def _message(payload: bytes) -> str:
    """The server's own words, in OpenAI's error shape or as they are."""
    text = payload.decode(errors="replace").strip()
    try:
        parsed: object = json.loads(text)
    except ValueError:
        return text[:300] or "no body"
    error = cast("dict[str, object]", parsed).get("error") if isinstance(parsed, dict) else None
    if isinstance(error, dict):
        return str(cast("dict[str, object]", error).get("message", text))[:300]
    return text[:300]
