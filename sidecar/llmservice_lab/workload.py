"""Workload files: one request a row, Parquet or JSONL. Reads and checks; draws nothing.

`output_tokens` is the truth about an answer: only engines and the oracle predictor may look at it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from llmservice_lab.parquet import read_rows


class WorkloadError(ValueError):
    """A workload file cannot be used; the message names file, row, field and value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRequest:
    """One recorded request. Times are seconds from the start of the recording."""

    arrival_s: float
    prompt: str | None
    prompt_tokens: int
    output_tokens: int
    model: str | None = None
    max_tokens: int | None = None
    tenant: str | None = None
    priority: int | None = None
    deadline_s: float | None = None
    cached_tokens: int = 0
    source: str | None = None
    slots: int = 1  # answers asked for at once; files have single ones


def load_workload(path: Path) -> list[WorkloadRequest]:
    """All requests of a `.parquet` or `.jsonl` file in order of arrival; other columns are ignored.

    Raises WorkloadError.
    """
    requests = [_request(row, where) for where, row in _rows(path)]
    if not requests:
        raise WorkloadError(f"{path}: no requests; a workload needs at least one row")
    return sorted(requests, key=lambda request: request.arrival_s)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with its place. The rows come from outside: their values are of any type."""
    readers: dict[str, Callable[[Path], Iterator[tuple[str, Mapping[str, Any]]]]] = {
        ".parquet": _parquet_rows,
        ".jsonl": _jsonl_rows,
    }
    if path.suffix not in readers:
        raise WorkloadError(f"{path}: unknown kind of file {path.suffix!r}; use .parquet or .jsonl")
    try:
        yield from readers[path.suffix](path)
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror or error}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        rows = read_rows(path)
    except ValueError as error:  # pyarrow's own errors are ValueErrors
        raise WorkloadError(f"{path}: not a readable Parquet file: {error}") from error
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", row


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row: object = json.loads(line)
            except ValueError as error:
                raise WorkloadError(f"{where}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise WorkloadError(f"{where}: expected an object with the request's columns")
            yield where, cast("dict[str, Any]", row)


def _request(row: Mapping[str, Any], where: str) -> WorkloadRequest:
    fields = _Fields(row, where)
    return WorkloadRequest(
        arrival_s=fields.need("arrival_s", fields.seconds("arrival_s")),
        prompt=fields.text("prompt"),
        prompt_tokens=fields.need("prompt_tokens", fields.whole("prompt_tokens", at_least=0)),
        output_tokens=fields.need("output_tokens", fields.whole("output_tokens", at_least=1)),
        model=fields.text("model"),
        max_tokens=fields.whole("max_tokens", at_least=1),
        tenant=fields.text("tenant"),
        priority=fields.whole("priority", at_least=-(2**63)),
        deadline_s=fields.seconds("deadline_s"),
        cached_tokens=fields.whole("cached_tokens", at_least=0) or 0,
        source=fields.text("source"),
    )


_MISSING: Final = "is missing; every row needs arrival_s, prompt_tokens and output_tokens"


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed access to one row; null and absent are the same."""

    row: Mapping[str, Any]
    where: str

    def need(self, name: str, value: Any) -> Any:
        if value is None:
            raise WorkloadError(f"{self.where}: {name} {_MISSING}")
        return value

    def seconds(self, name: str) -> float | None:
        value = self.row.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._bad(name, value, "a number of seconds")
        if not math.isfinite(value) or value < 0:
            raise self._bad(name, value, "a finite number of seconds, 0 or more")
        return float(value)

    def whole(self, name: str, *, at_least: int) -> int | None:
        value = self.row.get(name)
        if value is None:
            return None
        # Columns with nulls reach us as floats from some writers: 12.0 is 12.
        whole = not isinstance(value, bool) and isinstance(value, int | float)
        if not whole or value != value // 1 or value < at_least:
            raise self._bad(name, value, f"a whole number of at least {at_least}")
        return int(value)

    def text(self, name: str) -> str | None:
        value = self.row.get(name)
        if value is not None and not isinstance(value, str):
            raise self._bad(name, value, "text or null")
        return value

    def _bad(self, name: str, value: object, allowed: str) -> WorkloadError:
        return WorkloadError(f"{self.where}: {name} is {value!r}; allowed: {allowed}")
