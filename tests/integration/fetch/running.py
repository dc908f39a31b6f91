"""The download program as the processes of several pods."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from llmservice_api.status_report import ModelReport


class Pod:
    """One pod's download: its own `out`, a cache that others may share."""

    def __init__(self, root: Path, name: str = "pod-0", *, cache: Path | None = None) -> None:
        self.name = name
        self.cache = cache or root / f"{name}-cache"
        self.out = root / name
        for folder in (self.cache, self.out):
            folder.mkdir(parents=True, exist_ok=True)

    def start(
        self, *arguments: str, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Begin; the caller waits or kills."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "AWS_")) and "proxy" not in name.lower()
        }
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "llmservice_sidecar.fetch"),
                *(f"--cache={self.cache}", f"--out={self.out}", "--stale-seconds=2"),
                *arguments,
            ],
            env=inherited | {"POD_NAME": self.name} | (environment or {}),
            stderr=subprocess.PIPE,
            text=True,
        )

    def fetch(self, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
        """Run to its end: exit status and the last line it said."""
        running = self.start(*arguments, environment=environment)
        _, said = running.communicate(timeout=100)
        return running.returncode, said.strip().rpartition("\n")[2]

    def report(self) -> ModelReport | None:
        """What the sidecar would read."""
        path = self.out / "progress.json"
        return msgspec.json.decode(path.read_bytes(), type=ModelReport) if path.exists() else None

    def files(self, link: str = "model") -> dict[str, bytes]:
        """What the engine would find."""
        folder = self.out / link
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


def wanted(files: dict[str, bytes]) -> dict[str, Any]:
    """Of `model_files`, what is taken."""
    left = ("pytorch_model.bin", "modeling.py", "original/", ".git", "README")
    return {path: content for path, content in files.items() if not path.startswith(left)}
