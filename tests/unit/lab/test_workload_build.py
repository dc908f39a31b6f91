"""The build of the shipped workloads: what it takes, what it leaves, and that it is repeatable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from llmservice_lab import workload_build
from llmservice_lab.parquet import write_rows
from llmservice_lab.workload_build import LengthRow, select, usable

PART = workload_build.PARTS[0]
TOPICS = ("rivers", "enzymes", "contracts", "galaxies", "inflation", "poetry", "magnets", "trade")


def length_row(prompt: str, *, split: str = "train", truncated: bool = False) -> LengthRow:
    return {
        "source": PART.source,
        "model": "Mixtral",
        "model_canon": PART.model,
        "model_kind": "chat",
        "decoding": None,
        "split": split,
        "prompt": prompt,
        "prompt_tokens": 10,
        "output_tokens": 20,
        "truncated": truncated,
        "length_complete": True,
    }


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (length_row("q", truncated=True), "a cut answer has no known length"),
        (length_row("x" * 3000), "the prompt does not fit the engine"),
        (length_row(""), "nothing was asked"),
    ],
)
def test_unusable_rows_are_left_out(row: LengthRow, why: str) -> None:
    assert not usable(row, PART), why


def test_selection_keeps_the_split_and_drops_near_duplicates() -> None:
    shared = "Explain in one paragraph how a sextant measures the height of the sun at noon"
    table = [length_row(shared), length_row(shared + ".", split="test")]
    table += [length_row(f"What is known about {t}?", split="test") for t in TOPICS[:3]]
    train, test = select(table, seed=1)
    assert [row["prompt"] for row in train] == [shared]
    assert len(test) == 3
    assert shared + "." not in {row["prompt"] for row in test}


def test_same_seed_and_rows_in_any_order_write_the_same_files(tmp_path: Path) -> None:
    table = [length_row(f"Tell me about {t}", split="train") for t in TOPICS]
    table.append(length_row("Prove that seven is a prime number", split="test"))
    written: list[str] = []
    for run, ordered in enumerate((table, table[::-1])):
        folder = tmp_path / str(run)
        folder.mkdir()
        write_rows(folder / "lengths.parquet", ordered)
        trace = [{"trace": workload_build.TRACE, "arrival_s": 5.0 + i} for i in range(20)]
        write_rows(folder / "traces.parquet", trace)
        flags = ["--lengths", str(folder / "lengths.parquet"), "--out", str(folder)]
        assert workload_build.main([*flags, "--traces", str(folder / "traces.parquet")]) == 0
        written.append((folder / "demo-train.jsonl").read_text(encoding="utf-8"))
    assert written[0] == written[1]
    first = json.loads(written[0].splitlines()[0])
    assert first["arrival_s"] == 0.0
    assert set(first) >= {"prompt", "prompt_tokens", "output_tokens", "source", "recorded_model"}
