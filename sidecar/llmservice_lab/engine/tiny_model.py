"""The tiny model of local mode and tests, made on the spot in the engine's environment and cached.

This side knows no torch: it runs `tiny_model_build` with the engine's interpreter.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from llmservice_lab.engine.environment import (
    EngineEnvironmentError,
    cache_root,
    ensure_engine_python,
    locked,
)

_BUILDER: Final = Path(__file__).with_name("tiny_model_build.py")


def ensure_tiny_model(engine_python: Path) -> Path:
    """The directory of the tiny model; the first call makes it (about 15 s).

    Raises EngineEnvironmentError with the builder's own words when that fails.
    """
    key = hashlib.sha256(_BUILDER.read_bytes() + str(engine_python).encode())
    home = cache_root() / "models" / f"tiny-{key.hexdigest()[:12]}"
    if home.is_dir():
        return home
    with locked(home.with_suffix(".lock")):
        if not home.is_dir():
            _build(engine_python, home)
    return home


def _build(engine_python: Path, home: Path) -> None:
    draft = home.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        # Threads would make the tokenizer's training no faster and its ties less certain.
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(  # noqa: S603 - our own script with the interpreter we made
        [str(engine_python), str(_BUILDER), str(draft)],
        check=False,
        text=True,
        capture_output=True,
        env=environment,
    )
    if result.returncode:
        tail = "\n".join(result.stderr.splitlines()[-10:])
        raise EngineEnvironmentError(f"making the tiny model with {engine_python} failed:\n{tail}")
    # Renamed when whole: a reader sees either nothing or a complete model.
    draft.rename(home)


def main() -> int:
    """Make the model and print its directory."""
    try:
        engine_python = ensure_engine_python(log=lambda text: print(text, file=sys.stderr))
        print(ensure_tiny_model(engine_python))
    except EngineEnvironmentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
