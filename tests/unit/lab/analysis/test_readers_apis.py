"""Jaeger's and Tempo's APIs tell what a file tells; pages; errors that a person can act on."""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fakes.traced import START_S, Load, otlp_lines, requests_of
from llmservice_lab.analysis.readers import Selection, StoreError, jaeger, read_requests, tempo
from llmservice_lab.analysis.readers.window import selection_of, unix_s

REQUESTS = requests_of(Load(count=40, utilisation=1.2))
HOUR = Selection(since_s=START_S, until_s=START_S + 3600, service="chat")
Answer = Callable[[str, dict[str, str]], object | None]


@contextmanager
def store(answer: Answer) -> Generator[str]:
    """A trace store that answers by path and query; None is 404, text is sent as it is."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            query["header:tenant"] = self.headers.get("X-Scope-OrgID", "")
            found = answer(url.path, query)
            body = found if isinstance(found, str) else json.dumps(found)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def always(found: object) -> Answer:
    """The same answer to everything."""

    def answer(_path: str, _query: dict[str, str]) -> object:
        return found

    return answer


@functools.cache
def documents() -> dict[str, dict[str, Any]]:
    """One OTLP document a trace."""
    return {one.trace_id: json.loads(next(otlp_lines([one]))) for one in REQUESTS}


def jaeger_trace(trace_id: str, document: dict[str, Any]) -> dict[str, Any]:
    """A document as Jaeger's query API writes it."""
    processes: dict[str, Any] = {}
    spans: list[dict[str, Any]] = []
    for number, batch in enumerate(document["resourceSpans"]):
        tags = _tags(batch["resource"]["attributes"])
        name = next(tag["value"] for tag in tags if tag["key"] == "service.name")
        processes[f"p{number}"] = {"serviceName": name, "tags": tags}
        spans += [_jaeger_span(span, f"p{number}") for span in batch["scopeSpans"][0]["spans"]]
    return {"traceID": trace_id.lstrip("0"), "spans": spans, "processes": processes}


def _jaeger_span(span: dict[str, Any], process: str) -> dict[str, Any]:
    start, end = (int(span[f"{edge}TimeUnixNano"]) // 1000 for edge in ("start", "end"))
    parent = span.get("parentSpanId")
    reference = {"refType": "CHILD_OF", "traceID": span["traceId"], "spanID": parent}
    return {
        "traceID": span["traceId"].lstrip("0"),
        "spanID": span["spanId"].lstrip("0"),
        "operationName": span["name"],
        "references": [reference] if parent else [],
        "startTime": start,
        "duration": end - start,
        "tags": _tags(span["attributes"]),
        "logs": [
            {
                "timestamp": int(event["timeUnixNano"]) // 1000,
                "fields": [
                    {"key": "event", "type": "string", "value": event["name"]},
                    *_tags(event["attributes"]),
                ],
            }
            for event in span.get("events", ())
        ],
        "processID": process,
    }


def _tags(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": pair["key"], "type": "any", "value": _tag(pair["value"])} for pair in pairs]


def _tag(value: dict[str, Any]) -> object:
    (kind, content), *_ = value.items()
    if kind == "arrayValue":
        return json.dumps([_tag(item) for item in content["values"]])
    return int(content) if kind == "intValue" else content


@functools.cache
def jaeger_traces() -> list[dict[str, Any]]:
    """All of ours."""
    return [jaeger_trace(*item) for item in documents().items()]


def jaeger_answers(path: str, query: dict[str, str]) -> object | None:
    """Jaeger with our traces: those of a time window, of too many those whose end is latest."""
    if path == "/api/services":
        return {"data": ["chat", "chat-engine"]}
    if path != "/api/traces" or query["service"] != "chat":
        return None
    start, end, limit = (int(query[name]) for name in ("start", "end", "limit"))
    found = jaeger_traces()
    within = [one for one in found if start <= one["spans"][-1]["startTime"] <= end]
    within.sort(key=lambda one: -max(span["startTime"] for span in one["spans"]))
    return {"data": within[:limit]}


def tempo_answers(path: str, query: dict[str, str]) -> object | None:
    """Tempo with our traces; ids inside a trace are base64, as protobuf's JSON has them."""
    if path.startswith("/api/traces/"):
        text = json.dumps(documents()[path.rsplit("/", 1)[1].rjust(32, "0")])
        document = json.loads(text)
        for batch in document["resourceSpans"]:
            for span in batch["scopeSpans"][0]["spans"]:
                for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
        return {"batches": document["resourceSpans"]}
    if path == "/api/v2/search/tag/resource.service.name/values":
        return {"tagValues": [{"type": "string", "value": "chat"}]}
    start, end, limit = (int(query[name]) for name in ("start", "end", "limit"))
    found = [one for one in REQUESTS if start <= one.arrived_s < end]
    found.sort(key=lambda one: one.request_id)  # in no order of time
    traces = [
        {"traceID": one.trace_id.lstrip("0"), "startTimeUnixNano": str(round(one.arrived_s * 1e9))}
        for one in found[:limit]
    ]
    return {"traces": traces}


STORES = pytest.mark.parametrize(
    ("kind", "answers"),
    [
        pytest.param("jaeger", jaeger_answers, id="jaeger"),
        pytest.param("tempo", tempo_answers, id="tempo"),
    ],
)


@STORES
def test_a_store_tells_the_same_requests_as_a_file(kind: str, answers: Answer) -> None:
    with store(answers) as url:
        reading = read_requests([f"{kind}+{url}"], HOUR)
    assert [one.request_id for one in reading.requests] == [one.request_id for one in REQUESTS]
    found, made = reading.requests[30], REQUESTS[30]
    assert (found.overtaken_by, found.position) == (made.overtaken_by, made.position)
    assert found.overtaken_by_ids == made.overtaken_by_ids
    assert found.engine_queue_s == made.engine_queue_s
    assert found.first_token_s == pytest.approx(made.first_token_s, abs=1e-5)
    assert reading.told.broken_spans == 0


@STORES
def test_pages_are_put_together(
    kind: str, answers: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaeger, "_PAGE", 14)
    monkeypatch.setattr(tempo, "_PAGE", 14)
    with store(answers) as url:
        reading = read_requests([f"{kind}+{url}"], HOUR)
    assert reading.told.cut_off == 0
    assert [one.request_id for one in reading.requests] == [one.request_id for one in REQUESTS]


@STORES
def test_a_moment_that_holds_too_many_is_told(
    kind: str, answers: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaeger, "_PAGE", 1)
    monkeypatch.setattr(tempo, "_PAGE", 1)
    with store(answers) as url:
        short = Selection(since_s=START_S, until_s=START_S + 4, service="chat")
        assert read_requests([f"{kind}+{url}"], short).told.cut_off > 0


@STORES
def test_the_limit_keeps_the_latest_of_a_store(
    kind: str, answers: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaeger, "_PAGE", 14)
    monkeypatch.setattr(tempo, "_PAGE", 14)
    chosen = Selection(since_s=START_S, until_s=START_S + 3600, service="chat", limit=5)
    with store(answers) as url:
        reading = read_requests([f"{kind}+{url}"], chosen)
    assert [one.request_id for one in reading.requests] == [one.request_id for one in REQUESTS[-5:]]


@STORES
def test_the_only_service_is_found_by_itself(kind: str, answers: Answer) -> None:
    with store(answers) as url:
        chosen = Selection(since_s=HOUR.since_s, until_s=HOUR.until_s)
        assert read_requests([f"{kind}+{url}"], chosen).requests


def test_of_several_services_one_has_to_be_named() -> None:
    with (
        store(always({"data": ["b", "a", "a-engine"]})) as url,
        pytest.raises(ValueError, match=r"--service is needed: .* has traces of a, b"),
    ):
        read_requests([f"jaeger+{url}"], Selection())


def test_headers_reach_the_store() -> None:
    seen: list[str] = []

    def answer(path: str, query: dict[str, str]) -> object | None:
        seen.append(query["header:tenant"])
        return tempo_answers(path, query)

    with store(answer) as url:
        read_requests([f"tempo+{url}"], HOUR, headers={"X-Scope-OrgID": "team"})
    assert set(seen) == {"team"}


@pytest.mark.parametrize("kind", ["jaeger", "tempo"])
@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(None, "answered HTTP 404", id="another program's port"),
        pytest.param("<html>", "does not answer as", id="a page"),
        pytest.param({"traces": [], "data": []}, "no request of service 'chat'", id="nothing"),
    ],
)
def test_what_a_store_cannot_tell_is_said(kind: str, found: object, message: str) -> None:
    with store(always(found)) as url, pytest.raises(ValueError, match=message):
        read_requests([f"{kind}+{url}"], HOUR)


def test_a_store_that_is_not_there_is_named() -> None:
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:9/.* cannot be reached"):
        read_requests(["jaeger+http://127.0.0.1:9"], HOUR)


@pytest.mark.parametrize("source", ["http://localhost:16686", "zipkin+http://x", "jaeger+ftp://x"])
def test_other_addresses_are_no_source(source: str) -> None:
    with pytest.raises(ValueError, match=r"is no source: jaeger\+http://HOST:PORT"):
        read_requests([source], HOUR)


def test_a_store_stands_alone() -> None:
    with pytest.raises(ValueError, match="must stand alone"):
        read_requests(["a.json", "jaeger+http://x"], HOUR)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 910.0), ("2h", -6200.0), ("1970-01-01T00:01Z", 60.0), ("1970-01-01T00:01", 60.0)],
)
def test_times_are_ago_or_iso(text: str, expected: float) -> None:
    assert unix_s(text, option="--since", now_s=1000.0) == expected


def test_a_time_that_is_none_names_the_option() -> None:
    with pytest.raises(ValueError, match="--until: 'noon' is neither"):
        selection_of(since=None, until="noon", service=None, limit=1)
    with pytest.raises(ValueError, match="--since 1h is not before --until 2h"):
        selection_of(since="1h", until="2h", service=None, limit=1)
