"""A real Jaeger has one whole trace of every request, however it ended, and no other."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import grpc.aio
import msgspec
import pytest
from fakes.documented_queries import JaegerQuery, questions
from fakes.otlp_receiver import OtlpReceiver
from fakes.tcp_link import TcpLink
from integration.sidecar.conftest import static_config
from integration.sidecar.jaeger import JaegerProcess, StoredSpan
from integration.sidecar.ledger import CALL_SPAN, CALLER, Callers, Ending, Ledger, Sent
from integration.sidecar.outcome_load import ENDINGS, ROOM, Load
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import LiveConfig, TracingConfig
from llmservice_lab.engine.process import EngineProcess
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.runtime import telemetry_names as names
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

SERVICE: Final = "chat"
ENGINE: Final = "chat-engine"
QUERIES: Final = [query for question in questions() for query in question.jaeger]
_ARRIVED_S: Final = 60.0
# Who is left by its client ends after its client's span: Jaeger takes that for a wrong clock.
_CLOCKS: Final = "clock skew"
pytestmark = pytest.mark.timeout(400)  # of the first test: it waits for the whole load


@dataclass(frozen=True)
class Loaded:
    """A Jaeger with the traces of a load, what its clients saw, and what the sidecars counted."""

    jaeger: JaegerProcess
    sent: Sequence[Sent]
    metrics: Sequence[str]
    traces: Mapping[str, Sequence[StoredSpan]]


@pytest.fixture(scope="module")
def loaded(
    engine_latency: EngineProcess, otlp: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loaded]:
    """The load has ended and all its spans are there."""
    directory = tmp_path_factory.mktemp("jaeger")
    with JaegerProcess(directory) as jaeger, relayed(otlp, jaeger):
        ledger = Ledger(jaeger.endpoint)
        try:
            metrics = asyncio.run(load(engine_latency, jaeger, ledger, directory))
            traces = arrived(jaeger, ledger)
        finally:
            ledger.close()
        yield Loaded(jaeger, ledger.sent, metrics, traces)


@contextmanager
def relayed(otlp: OtlpReceiver, jaeger: JaegerProcess) -> Generator[None]:
    """The engine's collector passes its spans on: the engine began before Jaeger."""
    with grpc.insecure_channel(jaeger.endpoint.removeprefix("http://")) as channel:
        stub: Any = TraceServiceStub(channel)  # the generated stub has no types
        relay: partial[object] = partial(stub.Export, timeout=30)
        otlp.relays.append(relay)
        yield
        otlp.relays.remove(relay)


async def load(
    engine: EngineProcess, jaeger: JaegerProcess, ledger: Ledger, directory: Path
) -> list[str]:
    """Both sidecars' loads; their metrics at the end. One is drained and takes HTTP only."""
    live = LiveConfig(max_queued_requests=ROOM)
    tracing = TracingConfig(exporter_endpoint=ledger.endpoint)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    metrics: list[str] = []
    async with TcpLink(engine.port) as link, aiohttp.ClientSession(connector=connector) as session:
        static = msgspec.structs.replace(
            static_config(engine, OtlpReceiver(), engine_url=link.url),
            tracing=tracing,
            drain_timeout_s=120.0,
        )
        for name in ("first", "drained"):
            process = SidecarProcess(static, directory / name, live)
            sidecar = await asyncio.to_thread(process.__enter__)
            try:
                async with grpc.aio.insecure_channel(sidecar.grpc) as channel:
                    part = Load(Callers(sidecar, ledger, session, channel), link)
                    await (part.run() if name == "first" else part.drained())
                await asyncio.to_thread(arrived, jaeger, ledger)  # all have ended for the sidecar
                metrics.append((await asyncio.to_thread(sidecar.get, "/metrics")).decode())
            finally:
                await asyncio.to_thread(process.__exit__, None, None, None)
    return metrics


def arrived(jaeger: JaegerProcess, ledger: Ledger) -> dict[str, list[StoredSpan]]:
    """All traces of the callers, once each has what it must have: spans come in batches."""
    ledger.flush()
    deadline = time.monotonic() + _ARRIVED_S
    while True:
        traces = jaeger.traces(CALLER)
        missing = {
            (
                one.ending,
                frozenset(required(one)) - {span.name for span in traces.get(one.trace_id, ())},
            )
            for one in ledger.sent
        }
        if not any(lacking for _, lacking in missing):
            return traces
        if time.monotonic() > deadline:
            raise AssertionError([one for one in missing if one[1]])
        time.sleep(0.5)


def required(one: Sent) -> set[str]:
    """The spans that the trace of such an ending has at least."""
    spans = {CALL_SPAN, one.door}
    outcome, reason = one.ending
    if reason is not Reason.INVALID:
        spans.add(names.SPAN_QUEUE)
    ran = one.began or one.ending == (Outcome.CANCELLED, Reason.DEADLINE)
    asked = outcome in (Outcome.COMPLETED, Outcome.FAILED) or reason is Reason.ENGINE_REFUSED
    if ran or asked:
        spans.add(f"{one.operation} tiny")
    if outcome is Outcome.COMPLETED:
        spans |= {names.SPAN_PREDICT, names.SPAN_ENGINE_OWN}
    if outcome is Outcome.EVICTED:
        spans.add(names.SPAN_PREDICT)
    return spans


def allowed(one: Sent) -> set[str]:
    """Those it may have besides: how far it came before it was cut, its client cannot know."""
    outcome, reason = one.ending
    if reason is Reason.INVALID:
        return required(one)
    spans = required(one) | {names.SPAN_PREDICT}
    if outcome in (Outcome.CANCELLED, Outcome.FAILED) or reason is Reason.ENGINE_REFUSED:
        spans |= {f"{one.operation} tiny", names.SPAN_ENGINE_OWN}
    return spans


def test_the_load_had_every_ending(loaded: Loaded) -> None:
    assert ENDINGS - {one.ending for one in loaded.sent} == set()
    assert {one.door.partition(" ")[0] for one in loaded.sent} == {
        "POST",
        "llmservice.inference.v1alpha1.InferenceService/Generate",
    }


def test_every_trace_is_there_and_none_other(loaded: Loaded) -> None:
    sent = {one.trace_id for one in loaded.sent}
    assert len(sent) == len(loaded.sent)
    for service in (CALLER, SERVICE):
        assert set(loaded.jaeger.traces(service)) == sent, service
    assert set(loaded.jaeger.traces(ENGINE)) <= sent


def test_jaeger_counts_what_the_clients_counted(loaded: Loaded) -> None:
    seen = Counter(one.ending for one in loaded.sent)
    stored = {
        (outcome, reason): len(
            loaded.jaeger.traces(
                SERVICE, **{names.ATTR_OUTCOME: outcome.value, names.ATTR_REASON: reason.value}
            )
        )
        for outcome in Outcome
        for reason in Reason
    }
    assert {ending: count for ending, count in stored.items() if count} == dict(seen)


def test_metrics_count_the_same(loaded: Loaded) -> None:
    seen = Counter(one.ending for one in loaded.sent)
    pattern = re.compile(
        rf'^{names.METRIC_REQUESTS}_total{{{names.LABEL_OUTCOME}="(\w+)",'
        rf'{names.LABEL_REASON}="(\w+)"}} (\S+)$',
        re.MULTILINE,
    )
    told: Counter[Ending] = Counter()
    for page in loaded.metrics:
        for outcome, reason, value in pattern.findall(page):
            told[Outcome(outcome), Reason(reason)] += int(float(value))
    assert +told == seen


def test_every_trace_is_a_whole_tree(loaded: Loaded) -> None:
    for one in loaded.sent:
        spans = loaded.traces[one.trace_id]
        found = Counter(span.name for span in spans)
        assert max(found.values()) == 1, (one, found)
        assert required(one) <= set(found) <= allowed(one), one
        assert_tree({span.name: span for span in spans}, one)


def assert_tree(spans: Mapping[str, StoredSpan], one: Sent) -> None:
    """Each span hangs where it belongs and comes from whom it should; nothing is an orphan."""
    call, engine_call = f"{one.operation} tiny", names.SPAN_ENGINE_OWN
    door = (SERVICE, "server", CALL_SPAN)
    inner = (SERVICE, "internal", one.door)
    places = {
        CALL_SPAN: (CALLER, "client", ""),
        one.door: door,
        names.SPAN_PREDICT: inner,
        names.SPAN_QUEUE: inner,
        call: (SERVICE, "client", one.door),
        engine_call: (ENGINE, "server", call),
    }
    ids = {"": ""} | {name: span.span_id for name, span in spans.items()}
    for name, span in spans.items():
        service, kind, parent = places[name]
        assert (span.service, span.kind, span.parent) == (service, kind, ids[parent]), (one, name)
        assert [said for said in span.warnings if _CLOCKS not in said] == [], (one, name)
    ours = [span for span in spans.values() if span.service == SERVICE]
    assert {span.process[names.RESOURCE_POD] for span in ours} == {"chat-0"}
    assert {span.process[names.RESOURCE_SERVICE_INSTANCE] for span in ours} == {"chat-0"}


def test_the_span_of_the_door_says_how_it_ended(loaded: Loaded) -> None:
    for one in loaded.sent:
        (door,) = [span for span in loaded.traces[one.trace_id] if span.name == one.door]
        outcome, reason = one.ending
        assert (door.tags[names.ATTR_OUTCOME], door.tags[names.ATTR_REASON]) == one.ending
        faulty = outcome in (Outcome.FAILED, Outcome.EVICTED) or reason is Reason.DRAINING
        assert door.tags.get("error", False) is faulty, one


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.line)
def test_every_documented_query_finds_something(loaded: Loaded, query: JaegerQuery) -> None:
    known = next(one for one in loaded.sent if one.ending == (Outcome.COMPLETED, Reason.STOP))
    (door,) = [span for span in loaded.traces[known.trace_id] if span.name == known.door]
    values = {"TRACE_ID": known.trace_id, "REQUEST_ID": door.tags[names.ATTR_REQUEST_ID]}

    def filled(text: str) -> str:
        return re.sub(r"TRACE_ID|REQUEST_ID", lambda found: values[found[0]], text)

    parameters = {name: filled(value) for name, value in query.parameters.items()}
    assert loaded.jaeger.get(filled(query.path), parameters)


def test_spans_are_dropped_by_nobody(loaded: Loaded) -> None:
    for page in loaded.metrics:
        assert f"{names.METRIC_SPANS_DROPPED}_total 0.0" in page
