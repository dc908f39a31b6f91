"""Builds the Parquet files of `examples/workloads/`: mixed workloads as a service would see them.

Developers run it once; users get the files. Its inputs are tables that are not shipped: answer
lengths with and without prompts, recorded traces, regenerated traces. Sources and licences:
`examples/workloads/README.md`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from llmservice_lab.parquet import read_rows, write_rows

Row: TypeAlias = dict[str, Any]  # a workload file's columns

ROWS: Final = 6000
SEED: Final = 20261121
BLOCK_LIVES_S: Final = 600.0  # how long a block stays in the prefix cache of the long prompts
BATCH_S: Final = 3.0  # the long prompts' times were recorded in steps of 3 s
PYTHIA: Final = "dvruette/oasst-pythia-12b-6000-steps"
QWEN: Final = "qwen1.5-72b-chat"
MIXTRAL: Final = "mixtral-8x7b-instruct"


@dataclass(frozen=True, slots=True)
class Tables:
    """Where the inputs lie."""

    lengths: Path
    lengths_noprompt: Path
    traces: Path
    regenerated: Path


def build(tables: Tables) -> Mapping[str, list[Row]]:
    """All files by name."""
    answers = _Answers(tables)
    conversation = _trace(tables.traces, "azure2023_conv")
    prompt_tokens = [row["prompt_tokens"] for row in answers.chat()]
    return {
        "chat": _at(_shuffled(answers.chat()), conversation),
        "exam-chat": _at(_shuffled(answers.exam_and_chat()), conversation),
        "lmsys-chat": _at(answers.lmsys(prompt_tokens), conversation),
        "reasoning": _recorded(_trace(tables.regenerated, "servegen_deepseek-r1"), first=10_000),
        "azure-chat": _recorded(conversation),
        "azure-code": _recorded(_trace(tables.traces, "azure2023_code")),
        "long-prompts": _long_prompts(_trace(tables.traces, "mooncake_conversation")),
    }


class _Answers:
    """Complete answers of chat models, one for each prompt."""

    def __init__(self, tables: Tables) -> None:
        names = ("source", "model_canon", "model_kind", "decoding", "prompt", "prompt_tokens")
        answers = read_rows(
            tables.lengths, (*names, "output_tokens", "truncated", "length_complete")
        )
        self._answers = [
            row
            for row in answers
            if row["model_kind"] == "chat" and row["length_complete"] and not row["truncated"]
        ]
        self._noprompt = read_rows(
            tables.lengths_noprompt, ("source", "item_id", "model", "output_tokens")
        )

    def chat(self) -> list[Row]:
        """Volunteers' and arena prompts; two models answered."""
        volunteers = self._of("oasst_1k_multisample", PYTHIA, decoding="greedy")
        return volunteers + self._of("arena_hard_v0.1", MIXTRAL)

    def exam_and_chat(self) -> list[Row]:
        """Exam questions, user tasks and arena prompts, all answered by one model."""
        arena = self._of("arena_hard_v0.1", QWEN)
        exams = self._of("mmlu_pro_cot", QWEN)
        tasks = [r["output_tokens"] for r in self._items("wildbench_v2", "Qwen1.5-72B-Chat")]
        lengths = [row["prompt_tokens"] for row in arena]
        rng = _rng("exam-chat")
        users = [_row("wildbench_v2", rng.choice(lengths), tokens) for tokens in tasks]
        chosen = rng.sample(exams, len(users) + len(arena))
        # The texts would fill the repository; their lengths are what the simulator needs.
        return arena + users + [row | {"prompt": None} for row in chosen]

    def lmsys(self, prompt_tokens: Sequence[int]) -> list[Row]:
        """First answers of LMSYS-Chat-1M, cut at 511 tokens when they were recorded."""
        rng = _rng("lmsys-chat")
        items = self._items("lmsys1m_ssjf_test", "vicuna-13b")
        return [
            _row("lmsys1m", rng.choice(prompt_tokens), row["output_tokens"])
            for row in rng.sample(items, ROWS)
        ]

    def _of(self, source: str, model: str, *, decoding: str | None = None) -> list[Row]:
        one_each = {
            row["prompt"]: _row(source, row["prompt_tokens"], row["output_tokens"], row["prompt"])
            for row in self._answers
            if row["source"] == source
            and row["model_canon"] == model
            and decoding in (None, row["decoding"])
        }
        return [one_each[prompt] for prompt in sorted(one_each)]

    def _items(self, source: str, model: str) -> list[dict[str, Any]]:
        mine = [
            row
            for row in self._noprompt
            if row["source"] == source and row["model"] == model and row["output_tokens"] > 0
        ]
        return sorted(mine, key=lambda row: (str(row["item_id"]), row["output_tokens"]))


def cached_tokens(trace: Sequence[Mapping[str, Any]]) -> list[int]:
    """How much of each prompt an engine has in its prefix cache: its leading blocks seen lately."""
    seen: dict[int, float] = {}
    cached: list[int] = []
    for row in trace:
        hits, leading = 0, True
        for block in row["hash_ids"]:
            leading = leading and row["arrival_s"] - seen.get(block, -BLOCK_LIVES_S) < BLOCK_LIVES_S
            hits += leading
            seen[block] = row["arrival_s"]
        cached.append(min(hits * row["hash_block_tokens"], row["input_tokens"] - 1))
    return cached


def _long_prompts(trace: list[dict[str, Any]]) -> list[Row]:
    rng = _rng("long-prompts")
    spread = [
        row | {"arrival_s": row["arrival_s"] + rng.random() * BATCH_S, "cached_tokens": tokens}
        for row, tokens in zip(trace, cached_tokens(trace), strict=True)
    ]
    return _recorded(sorted(spread, key=lambda row: row["arrival_s"]))


def _recorded(trace: Sequence[Mapping[str, Any]], *, first: int = 0) -> list[Row]:
    """Sizes and times of the same requests."""
    part = trace[first : first + ROWS]
    rows = [
        _row(row["trace"], row["input_tokens"], row["output_tokens"])
        | {"cached_tokens": row.get("cached_tokens", 0)}
        for row in part
    ]
    return _at(rows, part)


def _trace(path: Path, name: str) -> list[dict[str, Any]]:
    rows = [row for row in read_rows(path) if row["trace"] == name and row["output_tokens"] > 0]
    return sorted(rows, key=lambda row: row["arrival_s"])


def _at(rows: Sequence[Row], trace: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows at the first times of the trace, from 0 on."""
    start = trace[0]["arrival_s"]
    return [
        row | {"arrival_s": round(other["arrival_s"] - start, 3)}
        for row, other in zip(rows, islice(trace, len(rows)), strict=True)
    ]


def _row(source: str, prompt_tokens: int, output_tokens: int, prompt: str | None = None) -> Row:
    return {
        "arrival_s": 0.0,
        "prompt": prompt,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "cached_tokens": 0,
        "source": source,
    }


def _shuffled(rows: Sequence[Row]) -> list[Row]:
    return _rng("order").sample(rows, len(rows))


def _rng(purpose: str) -> random.Random:
    return random.Random(f"{SEED}/{purpose}")  # noqa: S311 - a reproducible choice, not a secret


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("lengths", "lengths-noprompt", "traces", "regenerated"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("examples/workloads"))
    options = parser.parse_args(arguments)
    tables = Tables(options.lengths, options.lengths_noprompt, options.traces, options.regenerated)
    for name, rows in build(tables).items():
        path = options.out / f"{name}.parquet"
        write_rows(path, rows)
        sys.stdout.write(f"{path}: {len(rows)} rows, {path.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
