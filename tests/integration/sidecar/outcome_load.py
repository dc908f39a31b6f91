"""A load in which requests end in every way there is, through one sidecar and a real engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from fakes.tcp_link import TcpLink
from integration.sidecar.clients import chat_body, generate_request
from integration.sidecar.conftest import SLOTS
from integration.sidecar.ledger import Callers, Ending
from llmservice_api.sidecar_config import LiveConfig, PredictorMode
from llmservice_api.status_report import StatusReport
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb

ROOM: Final = 8  # in the queue
TENANT: Final = "x_gateway_inference_fairness_id"
LONG: Final = 900
_SETTLED_S: Final = 60.0

# Every way for a request to end, but for a missing key (which leaves no trace), an error of the
# engine inside a stream, and a fault of the sidecar's own.
ENDINGS: Final[frozenset[Ending]] = frozenset(
    {
        (Outcome.COMPLETED, Reason.STOP),
        (Outcome.COMPLETED, Reason.LENGTH),
        (Outcome.REJECTED, Reason.QUEUE_FULL),
        (Outcome.REJECTED, Reason.QUEUED_TOKENS),
        (Outcome.REJECTED, Reason.TOO_LARGE),
        (Outcome.REJECTED, Reason.INVALID),
        (Outcome.REJECTED, Reason.DRAINING),
        (Outcome.REJECTED, Reason.DEADLINE_UNREACHABLE),
        (Outcome.EVICTED, Reason.DEADLINE),
        (Outcome.EVICTED, Reason.QUEUE_TIMEOUT),
        (Outcome.EVICTED, Reason.QUEUE_SHARE),
        (Outcome.CANCELLED, Reason.CLIENT_GONE),
        (Outcome.CANCELLED, Reason.DEADLINE),
        (Outcome.FAILED, Reason.ENGINE_DOWN),
        (Outcome.REJECTED, Reason.ENGINE_REFUSED),
    }
)


@dataclass
class Load:
    """The parts of the load. Each begins and ends with nothing in the sidecar."""

    callers: Callers
    link: TcpLink
    _generation: int = 0

    async def run(self) -> None:
        """All parts but the last."""
        await self.overdue()  # first: once service times are known it is refused
        await self.served()
        await self.refused()
        await self.evicted()
        await self.cancelled()
        await self.engine_fails()

    async def overdue(self) -> None:
        """In the queue, and while the answer runs."""
        async with self.busy():
            await self.together(*[self.http(5, x_request_timeout_ms="150") for _ in range(3)])
        streams = [
            self.http(LONG, stream=stream, x_request_timeout_ms="1500") for stream in (False, True)
        ]
        await self.together(*streams)
        await self.settled()

    async def served(self) -> None:
        """Streamed and whole, chat and text, at both doors, more than there are slots."""
        for number in range(4):
            lengths = [60, 60, 60, 60, 5, 40, 10, 30]
            calls = [
                self.http(length, stream=index % 2 == 0)
                for index, length in enumerate(lengths)
                if index % 4 != 3
            ]
            calls += [self.callers.grpc(text_or_chat(8 + 3 * index)) for index in range(4)]
            text = {"model": "tiny", "prompt": "tell me", "max_tokens": 20 + number}
            calls.append(self.callers.http(text, path="/v1/completions"))
            calls.append(self.of_tenant("search", 50, max_tokens=4))
            await self.together(*calls)
            await self.settled()
        for settings in ({"policy": "FCFS"}, {"predictor_mode": PredictorMode.SHADOW}):
            async with self.applied(**settings):
                await self.together(*[self.http(20, stream=True) for _ in range(SLOTS + 1)])
                await self.settled()

    async def refused(self) -> None:
        async with self.busy(queued=ROOM):
            await self.together(
                self.http(5), self.http(5, stream=True), self.callers.grpc(text_or_chat(5))
            )
        async with self.busy(queued=4):
            await self.http(5, x_request_timeout_ms="5")
        await self.together(self.http(5, n=SLOTS + 1), self.callers.http(b'{"messages": ['))
        await self.together(self.http(5, not_a_field=1), self.http(5, model="gone"))
        await self.callers.grpc(generate_request(5, model="gone"))
        async with self.applied(max_queued_tokens=1), self.busy():
            await self.together(*[self.http(5) for _ in range(3)])

    async def evicted(self) -> None:
        async with self.applied(queue_timeout_s=0.2), self.busy():
            await self.together(*[self.http(5) for _ in range(3)])
            await self.callers.grpc(text_or_chat(5))
        given_up = (Outcome.EVICTED, Reason.QUEUE_SHARE)
        async with asyncio.TaskGroup() as group, self.busy(queued=ROOM):
            for _ in range(2):
                group.create_task(self.of_tenant("quiet", 5))
            async with asyncio.timeout(_SETTLED_S):
                while self.callers.ledger.endings[given_up] < 2:  # noqa: ASYNC110 - seen by clients
                    await asyncio.sleep(0.05)

    async def cancelled(self) -> None:
        async with self.busy():
            await self.callers.grpc(text_or_chat(5), leave="queued")
        await self.callers.grpc(text_or_chat(LONG), leave="delta")
        await self.http(LONG, stream=True, leave=True)
        await self.settled()

    async def engine_fails(self) -> None:
        await self.together(self.http(5, temperature=-1.0), self.http(5, top_p=7.0, stream=True))
        async with asyncio.TaskGroup() as group:
            group.create_task(self.http(LONG, stream=True))
            group.create_task(self.http(LONG))
            group.create_task(self.callers.grpc(text_or_chat(LONG)))
            await self.settled(in_flight_slots=3)
            await self.link.cut()
        await self.together(self.http(5), self.callers.grpc(text_or_chat(5)))
        self.link.mend()
        await self.until(lambda told: told.ready)

    async def drained(self) -> None:
        """What runs is finished, what comes meanwhile too, what comes later is refused."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.http(1800, max_tokens=1900))
            await self.settled(in_flight_slots=1)
            drain = group.create_task(self._drain())
            async with asyncio.timeout(_SETTLED_S):
                while (Outcome.REJECTED, Reason.DRAINING) not in self.callers.ledger.endings:
                    await self.http(5)
                    await asyncio.sleep(0.2)
            await self.http(5, stream=True)
        assert drain.result()

    async def _drain(self) -> bool:
        async with self.callers.session.post(f"{self.callers.sidecar.admin}/drain") as response:
            return (await response.json())["drained"]

    def http(self, out_len: int, *, leave: bool = False, **more: Any) -> Any:
        """A chat of exactly so many tokens; names with x_ become headers, others fields."""
        headers = {name: value for name, value in more.items() if name.startswith("x_")}
        fields = {name: value for name, value in more.items() if name not in headers}
        return self.callers.http(chat_body(out_len, **fields), leave=leave, **headers)

    def of_tenant(self, tenant: str, out_len: int, **fields: Any) -> Any:
        """The same of a tenant."""
        named: dict[str, Any] = {TENANT: tenant, **fields}
        return self.http(out_len, leave=False, **named)

    async def together(self, *calls: Any) -> None:
        """All at once, to their ends."""
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(call)

    async def settled(self, *, in_flight_slots: int = 0, queued_requests: int = 0) -> None:
        """Block until so much is in the sidecar."""
        await asyncio.to_thread(
            self.callers.sidecar.await_status,
            "the load",
            timeout_s=_SETTLED_S,
            in_flight_slots=in_flight_slots,
            queued_requests=queued_requests,
        )

    @asynccontextmanager
    async def busy(self, *, queued: int = 0) -> AsyncGenerator[None]:
        """All slots in use and so many waiting; in the end their clients leave them."""
        calls = [asyncio.create_task(self.http(LONG)) for _ in range(SLOTS + queued)]
        try:
            await self.settled(in_flight_slots=SLOTS, queued_requests=queued)
            yield
        finally:
            for call in calls:
                call.cancel()
            for call in calls:
                with suppress(asyncio.CancelledError):
                    await call
            await self.settled()

    @asynccontextmanager
    async def applied(self, **settings: Any) -> AsyncGenerator[None]:
        """Another live configuration for the block."""
        await self._apply(settings)
        try:
            yield
        finally:
            await self._apply({})

    async def _apply(self, settings: dict[str, Any]) -> None:
        self._generation += 1
        live = LiveConfig(generation=self._generation, max_queued_requests=ROOM, **settings)
        self.callers.sidecar.apply(live)
        await self.until(lambda told: told.generation_applied == self._generation)

    async def until(self, condition: Callable[[StatusReport], bool]) -> None:
        """Block until the sidecar's report is so."""
        deadline = time.monotonic() + _SETTLED_S
        while not condition(await asyncio.to_thread(self.callers.sidecar.status)):
            assert time.monotonic() < deadline, self.callers.sidecar.log()
            await asyncio.sleep(0.05)


def text_or_chat(out_len: int) -> pb.GenerateRequest:
    """Requests of even length are chats."""
    request = generate_request(out_len)
    if out_len % 2 == 0:
        message = pb.ChatMessage(role="user", content=request.text)
        request.chat.CopyFrom(pb.ChatPrompt(messages=[message]))
    return request
