from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llmservice_lab.parquet import write_rows
from llmservice_lab.predictors.dataset import Sample, read_lengths

ROW: dict[str, Any] = {"source": "s", "prompt": "Hi", "model": "m", "output_tokens": 3}
FULL: dict[str, Any] = {
    **ROW,
    "prompt_id": "p",
    "group": 7,
    "prompt_tokens": 2,
    "category": "c",
    "model_canon": "canon",
    "model_kind": "chat",
    "sample_id": "0",
    "truncated": False,
    "length_complete": True,
    "split": "train",
    "licence": "MIT",
}


def parquet(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "lengths.parquet"
    write_rows(path, rows)
    return path


def json_lines(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "lengths.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_row_with_every_column_becomes_a_sample(tmp_path: Path) -> None:
    assert read_lengths(parquet(tmp_path, FULL)) == [
        Sample("s", "p", "7", "Hi", 2, "canon", 3, "train", "MIT", "c", "0")
    ]


@pytest.mark.parametrize("write", [parquet, json_lines])
def test_four_columns_are_enough_and_count_as_test(tmp_path: Path, write: Any) -> None:
    (sample,) = read_lengths(write(tmp_path, ROW))
    assert (sample.source, sample.prompt, sample.model, sample.output_tokens) == ("s", "Hi", "m", 3)
    assert sample.split == "test"
    assert sample.group == sample.prompt_id
    assert not sample.permissive


@pytest.mark.parametrize(
    "odd", [{"truncated": True}, {"length_complete": False}, {"model_kind": "gamed"}]
)
def test_rows_that_tell_no_plain_length_are_left_out(tmp_path: Path, odd: dict[str, Any]) -> None:
    assert read_lengths(parquet(tmp_path, FULL, {**FULL, **odd})) == read_lengths(
        parquet(tmp_path, FULL)
    )


@pytest.mark.parametrize(
    ("licence", "kept"),
    [
        ("MIT", True),
        ("Apache-2.0", True),
        ("Apache-2.0 (repo; data MIT)", True),
        ("CC-BY-NC-4.0 (data); Apache-2.0 code", False),
        ("NONE STATED", False),
        ("", False),
    ],
)
def test_permissive_only_keeps_what_may_be_shipped(
    tmp_path: Path, licence: str, *, kept: bool
) -> None:
    path = parquet(tmp_path, {**FULL, "licence": licence})
    assert bool(read_lengths(path, permissive_only=True)) is kept


def test_only_the_splits_asked_for_are_read(tmp_path: Path) -> None:
    path = parquet(tmp_path, FULL, {**FULL, "split": "val"}, {**FULL, "split": "test"})
    assert [s.split for s in read_lengths(path, splits=("val", "test"))] == ["val", "test"]


def test_an_unknown_split_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'dev'.*train, val, test"):
        read_lengths(parquet(tmp_path, FULL), splits=("dev",))
    with pytest.raises(ValueError, match=r"'dev'; allowed: train, val, test"):
        read_lengths(parquet(tmp_path, {**FULL, "split": "dev"}))


@pytest.mark.parametrize("write", [parquet, json_lines])
def test_missing_columns_are_named(tmp_path: Path, write: Any) -> None:
    with pytest.raises(ValueError, match=r"lacks the columns \['prompt', 'output_tokens'\]"):
        read_lengths(write(tmp_path, {"source": "s", "model": "m"}))


@pytest.mark.parametrize("row", [{**ROW, "prompt": None}, {**ROW, "output_tokens": -1}])
def test_a_row_without_text_or_count_is_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"without text in prompt or a count in output_tokens"):
        read_lengths(json_lines(tmp_path, row))


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lengths.jsonl:1: "):
        read_lengths(json_lines(tmp_path, [1]))
