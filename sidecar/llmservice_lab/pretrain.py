"""Teaches the default predictor from recorded requests before it meets live ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.runtime.ports import PredictionQuery

from llmservice_lab.parquet import read_rows


def pretrain(
    train_file: Path, snapshot_file: Path, *, model: str = "", endpoint: str = "chat"
) -> Path:
    """Learn (prompt, output_tokens) rows in file order, write the snapshot, return its path.

    `train_file` is a workload file (JSONL or Parquet). Lengths depend on the model that answers:
    give the name and endpoint under which the predictor will be asked ("chat", "completions").
    Raises OSError or ValueError naming the file when it cannot be read.
    """
    predictor = OnlinePredictor()
    for prompt, output_tokens in _samples(train_file):
        query = query_for(prompt, model=model, endpoint=endpoint)
        predictor.observe(query, output_tokens=output_tokens, censored=False)
    if not predictor.samples:
        raise ValueError(f"{train_file} has no row with a prompt and output_tokens")
    snapshot_file.parent.mkdir(parents=True, exist_ok=True)
    snapshot_file.write_bytes(snapshot.save(predictor))
    return snapshot_file


def query_for(prompt: str, *, model: str, endpoint: str = "chat") -> PredictionQuery:
    """The query that a door would build for this prompt: its size is estimated, not counted."""
    return PredictionQuery(
        text=prompt, prompt_tokens=len(prompt.encode()) // 4, endpoint=endpoint, model=model
    )


def _samples(train_file: Path) -> Iterator[tuple[str, int]]:
    for row in _rows(train_file):
        prompt, output_tokens = row.get("prompt"), row.get("output_tokens")
        if isinstance(prompt, str) and isinstance(output_tokens, int):
            yield prompt, output_tokens


def _rows(train_file: Path) -> Iterator[dict[str, Any]]:
    if train_file.suffix == ".parquet":
        yield from read_rows(train_file)
        return
    with train_file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{train_file}:{number}: {error}") from error
