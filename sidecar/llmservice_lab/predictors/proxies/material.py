"""What a proxy learns from: answers in tables, prompt lines or traces, split by prompt group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from llmservice_lab.predictors.dataset import REQUIRED, Sample, read_lengths
from llmservice_lab.predictors.proxies.duplicates import near_duplicate_groups
from llmservice_lab.predictors.proxies.traces import read_traces
from llmservice_lab.predictors.targets import Target, prompt_targets

SHARES: Final = (0.8, 0.9)  # of the groups: train below the first, val below the second, then test
MIN_TRAIN: Final = 40  # prompts; below that nothing can be learned
MIN_VAL: Final = 20  # prompts; below that neither stopping nor calibration means anything


@dataclass(frozen=True, slots=True)
class Material:
    """Training prompts with their targets, and the answers that a proxy is judged on.

    `offsets` are ln ratios of the models' answers to the mean over models on the same prompts.
    """

    train: Sequence[Target]
    val: Sequence[Target]
    answers: Mapping[str, Sequence[Sample]]  # per split, val and test
    offsets: Mapping[str, float]
    licences: tuple[str, ...]
    prompts: Mapping[str, int]  # distinct, per split


def read_material(path: Path, *, permissive_only: bool = False, seed: int = 1) -> Material:
    """Read and split a file of answers: Parquet, JSON lines, or traces (OTLP JSON lines).

    A file that splits its rows itself is taken at its word; else 80 % of the groups of
    near-duplicate prompts train, 10 % stop and calibrate, 10 % test, chosen by `seed`.
    Raises OSError, or ValueError naming what is missing.
    """
    samples = [
        sample
        for sample in _read(path)
        if sample.prompt.strip() and (sample.permissive or not permissive_only)
    ]
    if all(sample.split == "test" for sample in samples):
        samples = split_by_group(samples, seed=seed)
    return material_of(samples, where=str(path))


def material_of(samples: Sequence[Sample], *, where: str) -> Material:
    """Targets and offsets of split samples. Raises ValueError when there are too few prompts."""
    by_split = {
        split: [sample for sample in samples if sample.split == split]
        for split in ("train", "val", "test")
    }
    train, val = prompt_targets(by_split["train"]), prompt_targets(by_split["val"])
    if len(train) < MIN_TRAIN or len(val) < MIN_VAL:
        raise ValueError(
            f"{where} has {len(train)} prompts to train on and {len(val)} to validate; "
            f"needed: {MIN_TRAIN} and {MIN_VAL}"
        )
    return Material(
        train=train,
        val=val,
        answers={split: by_split[split] for split in ("val", "test")},
        offsets=_offsets(by_split["train"], train),
        licences=tuple(sorted({sample.licence or "unknown" for sample in by_split["train"]})),
        prompts={split: len({s.prompt for s in rows}) for split, rows in by_split.items()},
    )


def split_by_group(samples: Sequence[Sample], *, seed: int) -> list[Sample]:
    """Samples with a split each; prompts that are nearly the same are on the same side."""
    prompts = list(dict.fromkeys(sample.prompt for sample in samples))
    groups = dict(zip(prompts, near_duplicate_groups(prompts), strict=True))
    leaders: dict[str, int] = {}  # what the file calls a group stays together, too
    for sample in samples:
        first = leaders.setdefault(sample.group, groups[sample.prompt])
        if groups[sample.prompt] != first:
            old = groups[sample.prompt]
            groups = {prompt: first if group == old else group for prompt, group in groups.items()}
            leaders = {name: first if group == old else group for name, group in leaders.items()}
    return [
        replace(
            sample,
            group=str(groups[sample.prompt]),
            split=_side(prompts[groups[sample.prompt]], seed=seed),
        )
        for sample in samples
    ]


def _side(leader: str, *, seed: int) -> str:
    """By hash of the group's first prompt: new rows do not move old ones to another side."""
    digest = hashlib.blake2b(f"{seed}\0{leader}".encode("utf-8", "replace"), digest_size=8)
    share = int.from_bytes(digest.digest(), "big") / 2**64
    return "train" if share < SHARES[0] else "val" if share < SHARES[1] else "test"


def _offsets(samples: Iterable[Sample], targets: Iterable[Target]) -> dict[str, float]:
    import numpy as np  # noqa: PLC0415 - only to take means of logarithms

    effects = {(target.source, target.prompt): target.log_tokens for target in targets}
    ratios: dict[str, list[float]] = {}
    for sample in samples:
        log_tokens = float(np.log(max(sample.output_tokens, 1)))
        ratios.setdefault(sample.model, []).append(
            log_tokens - effects[sample.source, sample.prompt]
        )
    return {model: float(np.mean(values)) for model, values in ratios.items()}


def _read(path: Path) -> list[Sample]:
    if path.suffix not in {".jsonl", ".json"}:
        return read_lengths(path)
    first = next(_lines(path), None)
    if first is None:
        raise ValueError(f"{path} is empty")
    if "resourceSpans" in first:
        return read_traces(_lines(path), where=str(path))
    if all(name in first for name in REQUIRED):
        return read_lengths(path)
    return list(_prompt_samples(path))


def _prompt_samples(path: Path) -> Iterator[Sample]:
    """Lines of `prompt` and `output_tokens` (a number) or `lengths` (numbers)."""
    for number, row in enumerate(_lines(path), start=1):
        prompt, lengths = row.get("prompt"), _counts(row)
        if not isinstance(prompt, str) or not lengths:
            raise ValueError(
                f"{path}:{number}: needed are prompt (text) and output_tokens (a count) or "
                f"lengths (counts); it has {sorted(row)}"
            )
        for length in lengths:
            yield Sample(
                source=str(row.get("source", path.stem)),
                prompt_id=prompt,
                group=str(row.get("group", prompt)),
                prompt=prompt,
                prompt_tokens=len(prompt.encode("utf-8", "replace")) // 4,
                model=str(row.get("model", "")),
                output_tokens=length,
                split=str(row.get("split", "test")),
                licence=str(row.get("licence", "")),
            )


def _counts(row: Mapping[str, Any]) -> list[int]:
    """Lengths of a line's answers; empty when one of them is no count."""
    given: list[object] = row["lengths"] if "lengths" in row else [row.get("output_tokens")]
    counts = [each for each in given if isinstance(each, int) and each >= 0]
    return counts if len(counts) == len(given) else []


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: not an object")  # noqa: TRY004 - bad content
            yield row
