"""The command line as a person meets it: help that teaches, errors that say what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from llmservice_api import __version__

COMMANDS = ("demo", "up", "bench", "sim", "train", "eval", "predict", "queue")


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmservice_local", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={"PATH": "", "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"},
        check=False,
    )


def test_help_names_every_command_and_shows_examples() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for command in COMMANDS:
        assert f"llmservice {command}" in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_has_an_example_and_json(command: str) -> None:
    shown = run(command, "--help")
    assert shown.returncode == 0
    assert "Example" in shown.stdout
    assert f"llmservice {command}" in shown.stdout
    assert "--json" in shown.stdout


def test_version_is_the_distributions() -> None:
    assert run("--version").stdout == f"llmservice {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from llmservice_local import cli; "
        "heavy = {'numpy', 'aiohttp', 'grpc', 'kubernetes', 'kopf', 'rich.progress', 'scipy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "cause", "step"),
    [
        pytest.param(("up", "-f", "absent.yaml"), "cannot read absent.yaml", "-f", id="no file"),
        pytest.param(
            ("bench", "--target", "http://127.0.0.1:9", "--workload", "absent.jsonl"),
            "absent.jsonl: No such file",
            "columns",
            id="no workload",
        ),
        pytest.param(
            ("bench", "--target", "x", "--workload", "w", "--rate", "1", "--load", "1"),
            "--rate and --load",
            "one of the two",
            id="two speeds",
        ),
        pytest.param(
            ("bench", "--target", "x", "--workload", "w", "--header", "oops"),
            "--header 'oops' is not NAME: VALUE",
            "Authorization",
            id="a header without a colon",
        ),
        pytest.param(
            ("demo", "--workload", "absent.jsonl"),
            "absent.jsonl: No such file",
            "repository",
            id="demo outside the repository",
        ),
    ],
)
def test_errors_name_cause_and_next_step_without_a_traceback(
    arguments: tuple[str, ...], cause: str, step: str, tmp_path: Path
) -> None:
    failed = run(*arguments, cwd=tmp_path)
    assert failed.returncode == 1
    assert f"error: {cause}" in failed.stderr
    assert "  next: " in failed.stderr
    assert step in failed.stderr.partition("  next: ")[2]
    assert "Traceback" not in failed.stderr


def test_no_server_is_said_in_words(tmp_path: Path) -> None:
    workload = tmp_path / "w.jsonl"
    line = '{"arrival_s": 0, "prompt": "a", "prompt_tokens": 1, "output_tokens": 2}\n'
    workload.write_text(line * 10)
    failed = run("bench", "--target", "http://127.0.0.1:9", "--workload", str(workload))
    assert failed.returncode == 1
    assert "http://127.0.0.1:9 does not answer as an OpenAI server" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_wrong_usage_exits_with_two() -> None:
    assert run("bench").returncode == 2
