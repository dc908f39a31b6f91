"""Workload files: what is read, and how errors name row, field and value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from llmservice_lab.parquet import write_rows
from llmservice_lab.workload import WorkloadError, load_workload

ROW = {"arrival_s": 1.5, "prompt": "Hi", "prompt_tokens": 3, "output_tokens": 7}


def jsonl(directory: Path, *rows: object) -> Path:
    file = directory / "w.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_a_row_has_defaults_for_what_is_optional(tmp_path: Path) -> None:
    (request,) = load_workload(jsonl(tmp_path, ROW))
    assert (request.arrival_s, request.prompt, request.output_tokens) == (1.5, "Hi", 7)
    assert (request.model, request.max_tokens, request.cached_tokens) == (None, None, 0)


def test_all_columns_are_read_and_others_ignored(tmp_path: Path) -> None:
    more = {
        "model": "m",
        "max_tokens": 9,
        "tenant": "t",
        "priority": -1,
        "deadline_s": 3,
        "cached_tokens": 2.0,
        "source": "s",
        "recorded_model": "x",
    }
    (request,) = load_workload(jsonl(tmp_path, ROW | more))
    assert (request.model, request.max_tokens, request.tenant) == ("m", 9, "t")
    assert (request.priority, request.deadline_s, request.cached_tokens) == (-1, 3.0, 2)
    assert request.source == "s"


def test_rows_come_in_order_of_arrival(tmp_path: Path) -> None:
    file = jsonl(tmp_path, ROW | {"arrival_s": 2.0}, ROW | {"arrival_s": 0.5})
    assert [request.arrival_s for request in load_workload(file)] == [0.5, 2.0]


def test_parquet_and_jsonl_read_the_same(tmp_path: Path) -> None:
    rows = [ROW | {"max_tokens": 5}, ROW | {"prompt": None, "max_tokens": None}]
    table = tmp_path / "w.parquet"
    write_rows(table, rows)
    assert load_workload(table) == load_workload(jsonl(tmp_path, *rows))


def test_the_shipped_workload_loads() -> None:
    shipped = Path(__file__).parents[3] / "examples" / "workloads" / "demo-test.jsonl"
    assert len(load_workload(shipped)) >= 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrival_s": None}, "line 2: arrival_s is missing"),
        ({"prompt_tokens": None}, "prompt_tokens is missing"),
        ({"output_tokens": 0}, "output_tokens is 0; allowed: a whole number of at least 1"),
        ({"output_tokens": 2.5}, r"output_tokens is 2\.5"),
        ({"output_tokens": True}, "output_tokens is True"),
        ({"output_tokens": float("nan")}, "output_tokens is nan"),
        ({"arrival_s": -1}, "arrival_s is -1"),
        ({"arrival_s": float("inf")}, "arrival_s is inf"),
        ({"arrival_s": "soon"}, "arrival_s is 'soon'; allowed: a number of seconds"),
        ({"deadline_s": False}, "deadline_s is False"),
        ({"prompt": 5}, "prompt is 5; allowed: text or null"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        load_workload(jsonl(tmp_path, ROW, ROW | change))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.jsonl", "{", "line 1: not JSON"),
        ("w.jsonl", "[1]", "line 1: expected an object"),
        ("w.jsonl", "\n\n", "no requests"),
        ("w.parquet", "no table", "not a readable Parquet file"),
        ("w.csv", "a,b", "unknown kind of file '.csv'"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(WorkloadError, match=message):
        load_workload(tmp_path / name)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"none\.jsonl: No such file"):
        load_workload(tmp_path / "none.jsonl")
