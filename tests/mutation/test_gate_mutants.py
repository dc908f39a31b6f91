"""Do the tests of the core notice when it is wrong? Each mutant must turn them red.

A copy of the sidecar is changed in one place and its tests run against the copy; a mutant that
survives is a hole in the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from mutation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
# The fastest first: a mutant is done with at its first failure.
SUITES = (
    *(
        f"tests/unit/core/test_{name}.py"
        for name in (
            *("gate", "gate_classes", "gate_rules", "fair_share", "service_rates", "gamma"),
            *("overtaking", "lanes", "policy", "request", "eta"),
        )
    ),
    *(
        f"tests/property/test_{name}.py"
        for name in (
            *("queue", "sorted_blocks", "level", "in_flight", "gate_machine"),
            *("policies_machine", "gate_traces", "fairness", "promises"),
        )
    ),
)


def copy_of_the_sidecar(directory: Path) -> Path:
    """Its core as a package that shadows the installed one; returns the core's folder."""
    package = directory / "llmservice_sidecar"
    ignored = shutil.ignore_patterns("__pycache__", "adapters", "wire")
    shutil.copytree(ROOT / "sidecar" / "llmservice_sidecar", package, ignore=ignored)
    return package / "core"


def name_of(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mutant", MUTANTS, ids=name_of)
def test_the_core_tests_notice(mutant: Mutant, tmp_path: Path) -> None:
    file = copy_of_the_sidecar(tmp_path) / mutant.file
    text = file.read_text()
    assert text.count(mutant.right) == 1, "the mutant's line is gone: bring the mutant up to date"
    file.write_text(text.replace(mutant.right, mutant.wrong))
    done = run_suites(tmp_path, SUITES)
    assert done.returncode == 1, f"survived:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.mark.timeout(180)
def test_an_unchanged_copy_passes_and_is_what_is_tested(tmp_path: Path) -> None:
    core = copy_of_the_sidecar(tmp_path)
    assert run_suites(tmp_path, SUITES[:1]).returncode == 0
    (core / "gate.py").unlink()
    assert run_suites(tmp_path, SUITES[:1]).returncode not in (0, 1)


def run_suites(package_dir: Path, suites: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The core's tests against the copy in `package_dir`, up to the first failure."""
    options = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:cov", "--tb=line")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *suites],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(package_dir), "CI": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
