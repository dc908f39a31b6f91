"""Where results of runs are kept between renderings: one JSON file a run, outside the checkout."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import cast

import llmservice_sidecar.core

import llmservice_lab
from llmservice_lab.benchmarks.cases import Case, CaseRun, Contender


class Store:
    """Results by everything that they depend on, the simulator's source included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def get(self, case: Case, contender: Contender, *, seed: int) -> CaseRun | None:
        """The result that was kept; None if there is none."""
        text = self.get_text(_parts(case, contender, seed))
        return None if text is None else cast("CaseRun", json.loads(text))

    def put(self, case: Case, contender: Contender, *, seed: int, run: CaseRun) -> None:
        """Keep a result."""
        self.put_text(_parts(case, contender, seed), json.dumps(run))

    def get_text(self, key: Sequence[object]) -> str | None:
        """What was kept under a key and this source; None if nothing was."""
        path = self._path(key)
        return path.read_text() if path.is_file() else None

    def put_text(self, key: Sequence[object], text: str) -> None:
        """Keep a text; whoever reads meanwhile sees all of it or nothing."""
        path = self._path(key)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(text)
        unfinished.replace(path)

    def _path(self, key: Sequence[object]) -> Path:
        name = json.dumps([*key, source_digest()], default=str)
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _parts(case: Case, contender: Contender, seed: int) -> list[object]:
    return [asdict(case), asdict(contender), seed, _digest(case.path)]


def default_folder() -> Path:
    """`$LLMSERVICE_CACHE` or the user's cache folder, as everywhere in this project."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("LLMSERVICE_CACHE") or f"{home}/llmservice") / "benchmarks"


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Of all that a simulated run executes; changes of text and plots keep the results."""
    core, lab = (Path(package.__path__[0]) for package in (llmservice_sidecar.core, llmservice_lab))
    files = [*core.rglob("*.py"), *lab.glob("*.py")]
    files += [lab / "benchmarks" / f"{name}.py" for name in ("cases", "timeline", "work")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


@lru_cache(maxsize=64)
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
