"""The ops port answers probes from the report; the admin port answers when the drain is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec
import pytest
from llmservice_api import names
from llmservice_api.queue_view import GuardView, QueueView, decode_queue_view
from llmservice_api.sidecar_config import ListenConfig
from llmservice_api.status_report import (
    EngineReport,
    PredictorReport,
    QueueReport,
    StatusReport,
    decode_report,
)
from llmservice_sidecar.adapters.ops_server import OpsServer, OpsSources

READY = StatusReport(
    generation_applied=3,
    static_hash="abc",
    ready=True,
    draining=False,
    engine=EngineReport(healthy=True),
    queue=QueueReport(
        policy="SSJF",
        order="SSJF",
        queued_requests=0,
        queued_tokens=0.0,
        in_flight_slots=0,
        limit_slots=4,
        backlog_s=0.0,
        gamma_per_s=0.0,
    ),
    predictor=PredictorReport(mode="Enforce", kind="Default", state="Ready"),
)
LOCAL = ListenConfig(host="127.0.0.1", ops_port=0, admin_port=0)


@dataclass
class Sidecar:
    """What the server asks: a report that tests change, a drain that tests let end."""

    report: StatusReport = READY
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def statistics(self) -> bytes | None:
        return b"\x00numbers"

    async def drain(self, timeout_s: float) -> bool:
        self.asked.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await self.empty.wait()
        except TimeoutError:
            return False


def queue_of(rows: int) -> QueueView:
    """An empty queue; as many in flight as rows were asked for."""
    return QueueView(
        queue=READY.queue,
        guard=GuardView(mode="Enforce", trusted=True),
        draining=False,
        in_flight_requests=rows,
        in_flight=[],
        waiting=[],
    )


async def nothing() -> bytes | None:
    return None


@asynccontextmanager
async def serving(
    sidecar: Sidecar, *, drain_timeout_s: float = 5.0
) -> AsyncGenerator[tuple[aiohttp.ClientSession, str, str]]:
    sources = OpsSources(
        report=lambda: sidecar.report,
        metrics=lambda accept: (f"accept={accept}".encode(), "text/plain; version=0.0.4"),
        drain=sidecar.drain,
        drain_timeout_s=drain_timeout_s,
        statistics=sidecar.statistics,
        snapshot=nothing,
        queue_view=queue_of,
    )
    server = OpsServer(sources, listen=LOCAL)
    await server.start()
    async with aiohttp.ClientSession() as session:
        base = "http://127.0.0.1:"
        yield session, f"{base}{server.ops_port}", f"{base}{server.admin_port}"
    await server.close()


async def test_status_is_the_report_that_the_operator_decodes() -> None:
    async with serving(Sidecar()) as (http, ops, _):
        response = await http.get(f"{ops}/status")
        assert decode_report(await response.read()) == READY


@pytest.mark.parametrize(
    ("report", "status", "text"),
    [
        (READY, 200, "ready"),
        (
            msgspec.structs.replace(
                READY, ready=False, engine=EngineReport(healthy=False, message="still loading")
            ),
            503,
            "not ready: still loading",
        ),
        (msgspec.structs.replace(READY, ready=False, draining=True), 503, "not ready: draining"),
    ],
    ids=["ready", "engine_still_loading", "draining"],
)
async def test_readiness_says_why_not(report: StatusReport, status: int, text: str) -> None:
    async with serving(Sidecar(report=report)) as (http, ops, _):
        response = await http.get(f"{ops}/readyz")
        assert (response.status, (await response.text()).strip()) == (status, text)
        assert (await http.get(f"{ops}/healthz")).status == 200


async def test_metrics_are_rendered_as_the_scraper_accepts() -> None:
    async with serving(Sidecar()) as (http, ops, _):
        response = await http.get(f"{ops}/metrics", headers={"Accept": "application/x"})
        assert await response.text() == "accept=application/x"
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_drain_answers_when_nothing_is_left(method: str) -> None:
    sidecar = Sidecar()
    async with serving(sidecar) as (http, _, admin):
        call = asyncio.create_task(http.request(method, f"{admin}/drain"))
        await asyncio.wait_for(sidecar.asked.wait(), 5)
        assert not call.done()
        sidecar.empty.set()
        assert await (await call).json() == {"drained": True}


async def test_what_was_learned_is_given_as_bytes() -> None:
    async with serving(Sidecar()) as (http, ops, _):
        answer = await http.get(f"{ops}{names.PATH_STATISTICS}")
        assert (answer.status, answer.content_type) == (200, "application/octet-stream")
        assert await answer.read() == b"\x00numbers"


async def test_a_predictor_that_learns_nothing_has_nothing_to_give() -> None:
    async with serving(Sidecar()) as (http, ops, _):
        answer = await http.get(f"{ops}{names.PATH_SNAPSHOT}")
        assert answer.status == 404
        assert "learns nothing" in await answer.text()


async def test_drain_that_times_out_says_so() -> None:
    async with serving(Sidecar(), drain_timeout_s=0.05) as (http, _, admin):
        assert await (await http.post(f"{admin}/drain")).json() == {"drained": False}


async def test_drain_is_not_reachable_on_the_ops_port() -> None:
    async with serving(Sidecar()) as (http, ops, _):
        assert (await http.post(f"{ops}/drain")).status == 404


@pytest.mark.parametrize(
    ("query", "rows"), [("", 20), ("?limit=0", 0), ("?limit=7", 7), ("?limit=256", 256)]
)
async def test_the_admin_port_tells_as_many_rows_as_are_asked_for(query: str, rows: int) -> None:
    async with serving(Sidecar()) as (http, _, admin):
        response = await http.get(f"{admin}/queue{query}")
        assert decode_queue_view(await response.read()) == queue_of(rows)


@pytest.mark.parametrize("limit", ["257", "-1", "", "x", "1e2", "0000000000257", "\u0663"])
async def test_a_limit_that_is_none_is_refused_with_what_is_allowed(limit: str) -> None:
    async with serving(Sidecar()) as (http, _, admin):
        response = await http.get(f"{admin}/queue", params={"limit": limit})
        assert response.status == 400
        assert f"limit is {limit!r}; allowed: a number from 0 to 256" in await response.text()


async def test_names_of_requests_are_not_told_on_the_ops_port() -> None:
    async with serving(Sidecar()) as (http, ops, _):
        assert (await http.get(f"{ops}/queue")).status == 404


def test_a_view_of_another_version_is_refused() -> None:
    later = msgspec.json.encode(msgspec.structs.replace(queue_of(0), version=2))
    with pytest.raises(msgspec.ValidationError, match="version 2 is not supported; supported: 1"):
        decode_queue_view(later)


async def test_a_taken_port_is_named() -> None:
    async with serving(Sidecar()) as (_, ops, _admin):
        taken = int(ops.rpartition(":")[2])
        sources = OpsSources(
            report=lambda: READY,
            metrics=lambda _: (b"", ""),
            drain=Sidecar().drain,
            drain_timeout_s=1.0,
            statistics=nothing,
            snapshot=nothing,
            queue_view=queue_of,
        )
        second = OpsServer(sources, listen=msgspec.structs.replace(LOCAL, ops_port=taken))
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{taken}"):
            await second.start()
