"""OTLP/JSON files to requests: whatever is in them, what can be read is, and the rest is told."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from fakes.traced import Load, otlp_lines, requests_of
from llmservice_lab.analysis.readers import Selection, read_requests
from llmservice_lab.analysis.record import TracedRequest
from llmservice_sidecar.runtime import telemetry_names as names

REQUESTS = requests_of(Load(count=120, utilisation=1.2))


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "spans.jsonl"
    path.write_text("".join(otlp_lines(REQUESTS)))
    return path


def near(one: TracedRequest) -> dict[str, object]:
    """Its fields; times have gone through whole nanoseconds."""
    fields = msgspec.structs.asdict(one)
    return {
        name: pytest.approx(value, rel=0, abs=2e-6) if isinstance(value, float) else value
        for name, value in fields.items()
    }


def read(*paths: Path, **selection: float | str | int) -> list[TracedRequest]:
    return list(read_requests([str(path) for path in paths], Selection(**selection)).requests)  # pyright: ignore[reportArgumentType] - as the tests give them


def test_everything_a_sidecar_writes_is_read_back(lines: Path) -> None:
    assert any(one.overtaken_by_ids for one in REQUESTS)
    assert any(one.position for one in REQUESTS)
    found = [msgspec.structs.asdict(one) for one in read(lines)]
    assert found == [near(one) for one in REQUESTS]


def test_one_document_is_read_as_lines_are(lines: Path, tmp_path: Path) -> None:
    documents = [json.loads(line) for line in lines.read_text().splitlines()]
    whole = tmp_path / "traces.json"
    spans = [batch for document in documents for batch in document["resourceSpans"]]
    whole.write_text(json.dumps({"resourceSpans": spans}, indent=1))
    assert read(whole) == read(lines)


def test_the_order_of_lines_and_files_does_not_matter(lines: Path, tmp_path: Path) -> None:
    text = lines.read_text().splitlines(keepends=True)
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text("".join(reversed(text[1:])))
    second.write_text(text[0])
    assert read(first, second) == read(lines)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("traceId", None, id="a span without a trace"),
        pytest.param("spanId", "zz", id="an id that is no id"),
        pytest.param("startTimeUnixNano", "soon", id="no time"),
        pytest.param("attributes", 7, id="attributes that are none"),
    ],
)
def test_a_broken_span_costs_only_itself(lines: Path, field: str, value: object) -> None:
    text = lines.read_text().splitlines(keepends=True)
    document = json.loads(text[0])
    spans = document["resourceSpans"][1]["scopeSpans"][0]["spans"]
    place = next(at for at, span in enumerate(spans) if span["name"] == "predict_length")
    spans[place][field] = value
    lines.write_text("".join([json.dumps(document) + "\n", *text[1:]]))
    reading = read_requests([str(lines)], Selection())
    assert reading.told.broken_spans == 1
    assert len(reading.told.examples) == 1
    assert len(reading.requests) == len(REQUESTS)
    assert sum(one.predict_s is None for one in reading.requests) == 1


@pytest.mark.parametrize("first", [True, False], ids=["the first line", "the last line"])
def test_a_line_cut_off_is_told_and_the_rest_is_read(lines: Path, first: bool) -> None:
    text = lines.read_text().splitlines(keepends=True)
    cut = text[0][:1000] + "\n"
    lines.write_text("".join([cut, *text[1:]] if first else [*text[1:], cut.rstrip()]))
    reading = read_requests([str(lines)], Selection())
    assert len(reading.requests) == len(REQUESTS) - 50
    assert reading.told.broken_spans == 1


def test_spans_of_other_programs_are_counted(lines: Path) -> None:
    foreign = {
        "traceId": "a" * 32,
        "spanId": "b" * 16,
        "name": "GET /",
        "startTimeUnixNano": 1,
        "endTimeUnixNano": 2,
        "unknown": {"field": 1},
    }
    line = {"resourceSpans": [{"scopeSpans": [{"spans": [foreign]}]}]}
    with lines.open("a") as file:
        file.write(json.dumps(line))
    reading = read_requests([str(lines)], Selection())
    assert reading.told.foreign_spans == 1
    assert len(reading.requests) == len(REQUESTS)


def test_a_request_whose_door_is_missing_is_told(lines: Path) -> None:
    text = lines.read_text().splitlines(keepends=True)
    document = json.loads(text[0])
    spans = document["resourceSpans"][1]["scopeSpans"][0]["spans"]
    door = next(span for span in spans if span["name"].startswith("POST"))
    spans.remove(door)
    lines.write_text("".join([json.dumps(document) + "\n", *text[1:]]))
    reading = read_requests([str(lines)], Selection())
    assert len(reading.requests) == len(REQUESTS) - 1
    assert reading.told.incomplete == 1


def test_the_limit_keeps_the_latest(lines: Path) -> None:
    reading = read_requests([str(lines)], Selection(limit=30))
    assert [one.request_id for one in reading.requests] == [
        one.request_id for one in REQUESTS[-30:]
    ]
    assert reading.told.left_out == 90
    assert reading.told.incomplete == 0


def test_only_the_time_asked_for_is_read(lines: Path) -> None:
    since_s, until_s = REQUESTS[20].arrived_s - 1e-4, REQUESTS[50].arrived_s - 1e-4
    found = read(lines, since_s=since_s, until_s=until_s)
    assert [one.request_id for one in found] == [one.request_id for one in REQUESTS[20:50]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is empty", id="an empty file"),
        pytest.param("not json", "is no OTLP/JSON", id="a file that is no JSON"),
        pytest.param('{"data": []}', "has no resourceSpans", id="JSON of another kind"),
        pytest.param('{"resourceSpans": []}', "no request in 0 spans", id="no spans"),
    ],
)
def test_a_file_without_requests_is_refused_by_name(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_a_service_that_is_not_there_is_named(lines: Path) -> None:
    with pytest.raises(ValueError, match="no request of service 'other'"):
        read(lines, service="other")


def spoilt(lines: Path, name: str, attribute: str, value: dict[str, object]) -> None:
    """Give an attribute of the first span of a name another value."""
    text = lines.read_text().splitlines(keepends=True)
    document = json.loads(text[0])
    spans = document["resourceSpans"][1]["scopeSpans"][0]["spans"]
    span = next(span for span in spans if span["name"] == name)
    next(pair for pair in span["attributes"] if pair["key"] == attribute)["value"] = value
    lines.write_text("".join([json.dumps(document) + "\n", *text[1:]]))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"stringValue": "long"}, id="text"),
        pytest.param({"doubleValue": "NaN"}, id="not a number"),
        pytest.param({"arrayValue": {"values": [{"intValue": 1}]}}, id="a list"),
    ],
)
def test_an_attribute_that_should_be_a_number_is_told(
    lines: Path, value: dict[str, object]
) -> None:
    spoilt(lines, "queue", names.ATTR_QUEUE_WAIT_S, value)
    reading = read_requests([str(lines)], Selection())
    assert reading.told.broken_spans == 1
    assert "span 'queue' of trace" in reading.told.examples[0]
    assert len(reading.requests) == len(REQUESTS)


def test_what_waits_for_a_door_is_bounded(lines: Path) -> None:
    text = lines.read_text()
    doors = text.count('"name":"POST')
    lines.write_text(text.replace(f'"{names.ATTR_DOOR}"', '"foreign"', doors - 1))
    reading = read_requests([str(lines)], Selection(limit=3))
    assert len(reading.requests) == 1
    assert reading.told.incomplete == doors - 1
