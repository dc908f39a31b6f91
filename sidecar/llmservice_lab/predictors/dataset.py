"""A table of answer lengths: prompts, the models that answered, and how many tokens they wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from llmservice_lab.parquet import column_names, read_rows

SPLITS: Final = ("train", "val", "test")
REQUIRED: Final = ("source", "prompt", "model", "output_tokens")
OPTIONAL: Final = (
    "prompt_id",
    "group",
    "prompt_tokens",
    "category",
    "model_canon",
    "model_kind",
    "sample_id",
    "truncated",
    "length_complete",
    "split",
    "licence",
)
PERMISSIVE: Final = ("Apache-2.0", "MIT")  # first word of the column `licence`


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer. Prompts with equal `group` are near-duplicates: never on both sides of a split.

    `model` is its canonical name, joined across sources; `licence` is that of the prompt and the
    length, empty when unknown.
    """

    source: str
    prompt_id: str
    group: str
    prompt: str
    prompt_tokens: int
    model: str
    output_tokens: int
    split: str  # one of SPLITS
    licence: str = ""
    category: str = ""
    sample_id: str = ""

    @property
    def permissive(self) -> bool:
        """Whether weights trained on it may be shipped."""
        return self.licence.startswith(PERMISSIVE)


def read_lengths(
    path: Path, *, splits: Collection[str] = SPLITS, permissive_only: bool = False
) -> list[Sample]:
    """Samples of a Parquet or JSON-lines file, in file order, complete answers of chat models only.

    Columns: `source`, `prompt`, `model`, `output_tokens` are required. Others count when there:
    rows with another `model_kind` than "chat", `truncated`, or not `length_complete` are left out;
    without `split` every row is test; without `group` every prompt is a group of its own.
    Raises OSError when the file cannot be read; ValueError naming what is missing or not allowed.
    """
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown:
        raise ValueError(f"splits {unknown}; allowed: {', '.join(SPLITS)}")
    prompts: dict[str, str] = {}  # one string per distinct prompt: tables repeat them per model
    samples: list[Sample] = []
    for row in _rows(path):
        if not _wanted(row):
            continue
        sample = _sample(row, prompts, where=str(path))
        if sample.split in splits and (sample.permissive or not permissive_only):
            samples.append(sample)
    return samples


def _wanted(row: Mapping[str, Any]) -> bool:
    return (
        row.get("model_kind", "chat") == "chat"
        and bool(row.get("length_complete", True))
        and not row.get("truncated", False)
    )


def _sample(row: Mapping[str, Any], prompts: dict[str, str], *, where: str) -> Sample:
    prompt, output_tokens = row["prompt"], row["output_tokens"]
    if not isinstance(prompt, str) or not isinstance(output_tokens, int) or output_tokens < 0:
        raise ValueError(f"{where}: a row without text in prompt or a count in output_tokens")
    prompt = prompts.setdefault(prompt, prompt)
    prompt_id = str(
        row.get("prompt_id")
        or hashlib.sha1(prompt.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    )
    split = str(row.get("split", "test"))
    if split not in SPLITS:
        raise ValueError(f"{where}: split {split!r}; allowed: {', '.join(SPLITS)}")
    group = row.get("group")
    prompt_tokens = row.get("prompt_tokens")
    return Sample(
        source=str(row["source"]),
        prompt_id=prompt_id,
        group=prompt_id if group is None else str(group),
        prompt=prompt,
        prompt_tokens=len(prompt.encode("utf-8", "replace")) // 4
        if prompt_tokens is None
        else int(prompt_tokens),
        model=str(row.get("model_canon") or row["model"]),
        output_tokens=output_tokens,
        split=split,
        licence=str(row.get("licence") or ""),
        category=str(row.get("category") or ""),
        sample_id=str(row.get("sample_id") or ""),
    )


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix in {".jsonl", ".json"}:
        yield from _json_rows(path)
        return
    there = column_names(path)
    _require(path, there)
    yield from read_rows(path, [*REQUIRED, *(name for name in OPTIONAL if name in there)])


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            _require(path, row)
            yield row


def _require(path: Path, there: Iterable[str]) -> None:
    found = list(there)
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {found}")
