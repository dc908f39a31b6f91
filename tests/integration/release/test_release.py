"""The release as far as one machine can prove it: archives that install, workflows that parse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from cluster.tools import ensure
from llmservice_api import __version__

ROOT: Final = Path(__file__).parents[3]


@pytest.mark.timeout(600)  # without a package cache two hundred megabytes are fetched
def test_archives_install_and_run_and_the_chart_is_packaged(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "release" / "check.py"),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("llmservice-*")) == [
        f"llmservice-{__version__}-py3-none-any.whl",
        f"llmservice-{__version__}.tar.gz",
        f"llmservice-{__version__}.tgz",
    ]
    assert f"llmservice {__version__}" in done.stderr


@pytest.mark.timeout(600)  # built once per machine
def test_actionlint_finds_nothing_in_the_workflows() -> None:
    actionlint = ensure(["actionlint"])["actionlint"]
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
    assert workflows
    command = [str(actionlint), "-no-color", *map(str, workflows)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
