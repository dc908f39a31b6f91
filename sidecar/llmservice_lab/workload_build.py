"""Builds `examples/workloads/`: real prompts, their recorded answer lengths, real arrival times.

Developers run it once; users get the files. Its inputs are two Parquet tables that are not shipped:
answer lengths with a leakage-free split by prompt group, and arrival traces. What was taken from
where, under which licence, stands in `examples/workloads/README.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict, cast

from llmservice_lab.parquet import read_rows
from llmservice_lab.similarity import nearest_similarity

MAX_PROMPT_CHARS: Final = 2000  # fits 4,096 positions even at two characters a token
MAX_SIMILARITY: Final = 0.8  # the bound by which the source tables grouped near-duplicates
TRACE: Final = "azure2023_conv"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one source: whose lengths, which decoding, how many of each side."""

    source: str
    model: str
    decoding: str | None
    train_rows: int
    test_rows: int


# What a shared service sees: two thirds short exam questions, the rest open chat and long technical
# work. Chat and technical rows are all that the sources' splits hold; the exam rows fill up.
PARTS: Final = (
    Part("mmlu_pro_cot", "mixtral-8x7b-instruct", None, 900, 310),
    Part("oasst_1k_multisample", "dvruette/oasst-pythia-12b-6000-steps", "greedy", 278, 87),
    Part("arena_hard_v0.1", "mixtral-8x7b-instruct", None, 277, 94),
)

COLUMNS: Final = (
    "source",
    "model",
    "model_canon",
    "model_kind",
    "decoding",
    "split",
    "prompt",
    "prompt_tokens",
    "output_tokens",
    "truncated",
    "length_complete",
)


class LengthRow(TypedDict):
    """One recorded answer, as the lengths table names its columns."""

    source: str
    model: str
    model_canon: str
    model_kind: str
    decoding: str | None
    split: str
    prompt: str
    prompt_tokens: int
    output_tokens: int
    truncated: bool
    length_complete: bool


def usable(row: LengthRow, part: Part) -> bool:
    """A complete answer of the part's model to a prompt that fits the demo's engine."""
    return (
        row["source"] == part.source
        and row["model_canon"] == part.model
        and row["model_kind"] == "chat"
        and row["length_complete"]
        and not row["truncated"]
        and (part.decoding is None or row["decoding"] == part.decoding)
        and 0 < len(row["prompt"]) <= MAX_PROMPT_CHARS
    )


def select(rows: Iterable[LengthRow], *, seed: int) -> tuple[list[LengthRow], list[LengthRow]]:
    """(train, test): the sources' own splits, shuffled; test loses what resembles train."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible choice, not a secret
    pool = list(rows)
    train: list[LengthRow] = []
    test: list[LengthRow] = []
    for part in PARTS:
        mine = [row for row in pool if usable(row, part)]
        for side, wanted, split in (
            (train, part.train_rows, "train"),
            (test, part.test_rows, "test"),
        ):
            candidates = _distinct(row for row in mine if row["split"] == split)
            rng.shuffle(candidates)
            side.extend(candidates[:wanted])
    rng.shuffle(train)
    rng.shuffle(test)
    return train, _unlike(test, train)


def _distinct(rows: Iterable[LengthRow]) -> list[LengthRow]:
    """The first row of each prompt, in an order that does not depend on the table's."""
    by_prompt: dict[str, LengthRow] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt"], row)
    return [by_prompt[prompt] for prompt in sorted(by_prompt)]


def _unlike(test: list[LengthRow], train: Sequence[LengthRow]) -> list[LengthRow]:
    nearest = nearest_similarity([r["prompt"] for r in test], [r["prompt"] for r in train])
    return [row for row, value in zip(test, nearest, strict=True) if value <= MAX_SIMILARITY]


def write(path: Path, rows: Sequence[LengthRow], arrivals: Sequence[float]) -> None:
    """One JSON object a line: the columns of a workload file, plus whose length it is."""
    with path.open("w", encoding="utf-8") as file:
        for row, arrival in zip(rows, arrivals, strict=True):
            record = {
                "arrival_s": round(arrival - arrivals[0], 3),
                "prompt": row["prompt"],
                "prompt_tokens": row["prompt_tokens"],
                "output_tokens": row["output_tokens"],
                "source": row["source"],
                "recorded_model": row["model"],
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_lengths(path: Path) -> list[LengthRow]:
    """All rows of the lengths table, the columns needed here."""
    return cast("list[LengthRow]", read_rows(path, COLUMNS))


def read_arrivals(path: Path) -> list[float]:
    """Arrival times of the trace in seconds, ascending."""
    rows = read_rows(path, ("trace", "arrival_s"))
    return sorted(float(row["arrival_s"]) for row in rows if row["trace"] == TRACE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both files; the test part takes the first arrivals of the trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=Path, required=True, help="table of answer lengths")
    parser.add_argument("--traces", type=Path, required=True, help="table of arrival traces")
    parser.add_argument("--out", type=Path, default=Path("examples/workloads"))
    parser.add_argument("--seed", type=int, default=20261121)
    options = parser.parse_args(arguments)
    train, test = select(read_lengths(options.lengths), seed=options.seed)
    arrivals = read_arrivals(options.traces)
    write(options.out / "demo-test.jsonl", test, arrivals[: len(test)])
    write(options.out / "demo-train.jsonl", train, arrivals[len(test) : len(test) + len(train)])
    sys.stdout.write(f"{len(train)} train rows and {len(test)} test rows in {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
