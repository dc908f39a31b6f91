"""Where slow results are kept between runs: outside the checkout, named by what they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def default_folder() -> Path:
    """`$LLMSERVICE_CACHE` or the user's cache folder, as everywhere in this project."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("LLMSERVICE_CACHE") or f"{home}/llmservice") / "predictors"


class Store:
    """JSON documents by key; a key lists everything that a result depends on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def get(self, *key: object) -> Any | None:
        """What was kept under this key; None if nothing was."""
        path = self._path(key)
        return json.loads(path.read_text()) if path.is_file() else None

    def put(self, *key: object, value: object) -> None:
        """Keep a value; whoever reads meanwhile sees all of it or nothing."""
        path = self._path(key)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(value))
        unfinished.replace(path)

    def _path(self, key: tuple[object, ...]) -> Path:
        name = hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


def digest_of(path: Path) -> str:
    """Of a file's bytes, or of all files under a folder."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    state = hashlib.sha256()
    for each in files:
        state.update(each.name.encode())
        state.update(each.read_bytes())
    return state.hexdigest()[:32]
