"""The typed seam to pyarrow, which ships no types: a table is a list of rows."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Rows of a Parquet file as dictionaries; the named columns only, all without `columns`.

    Raises OSError when the file cannot be read and ValueError when it is no Parquet file or lacks
    a column.
    """
    wanted = None if columns is None else list(columns)
    table = _pyarrow("pyarrow.parquet").read_table(path, columns=wanted)
    missing = [name for name in wanted or [] if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {table.column_names}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def column_names(path: Path) -> list[str]:
    """Names of a Parquet file's columns. Raises OSError or ValueError as `read_rows` does."""
    names: list[str] = _pyarrow("pyarrow.parquet").read_schema(path).names
    return names


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys as one compressed Parquet file; column types follow the values."""
    table = _pyarrow("pyarrow").Table.from_pylist([dict(row) for row in rows])
    _pyarrow("pyarrow.parquet").write_table(table, path, compression="zstd")


def _pyarrow(module: str) -> Any:
    return importlib.import_module(module)
