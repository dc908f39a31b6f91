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
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = ("tests/unit/core/test_gate.py", "tests/unit/core", "tests/property")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong line: `right` in `file` of the core becomes `wrong`."""

    name: str
    file: str
    right: str
    wrong: str


MUTANTS = (
    Mutant(
        "the boost is dropped",
        "policy.py",
        "request.arrived_at - boost_s(cost_s, gamma_per_s=view.gamma_per_s)",
        "request.arrived_at",
    ),
    Mutant(
        "a slot leaks when a request leaves",
        "gate.py",
        "self._in_flight -= flight.running.request.slots",
        "self._in_flight -= flight.running.request.slots - 1",
    ),
    Mutant(
        "one slot more than the limit is given",
        "gate.py",
        "if self._in_flight + request.slots > self._limit:",
        "if self._in_flight + request.slots > self._limit + 1:",
    ),
    Mutant(
        "the last slot is never given",
        "gate.py",
        "if self._in_flight + request.slots > self._limit:",
        "if self._in_flight + request.slots >= self._limit:",
    ),
    Mutant(
        "a wide request counts as one slot",
        "gate.py",
        "self._in_flight += request.slots",
        "self._in_flight += 1",
    ),
    Mutant(
        "only one request is admitted when several fit",
        "gate.py",
        "            self._run(head.request, standing, head.number, now=now)\n",
        "            self._run(head.request, standing, head.number, now=now)\n            break\n",
    ),
    Mutant(
        "a free slot goes to whoever comes, past the queue",
        "gate.py",
        "return head is None or key < head.key",
        "return True",
    ),
    Mutant(
        "ties run in the opposite of arrival order",
        "queue.py",
        "return (item.key, item.number)",
        "return (item.key, -item.number)",
    ),
    Mutant(
        "keys are kept when gamma moves",
        "gate.py",
        "moved(self._view.gamma_per_s, view.gamma_per_s)",
        "False",
    ),
    Mutant(
        "new keys are made under a new gamma beside old ones",
        "gate.py",
        "        self._view = view\n        self._queue.rekey(self._key)",
        "        self._view = view",
    ),
    Mutant(
        "work in flight never decays",
        "gamma.py",
        "left -= (now - item.first_token_at) * item.request.slots",
        "left -= 0.0",
    ),
    Mutant(
        "the queue takes one too many",
        "gate.py",
        "len(self._queue) >= self._max_queued",
        "len(self._queue) > self._max_queued",
    ),
    Mutant(
        "the mean excess is ignored",
        "gamma.py",
        "max(work_s, 2 * self._excess_s, MIN_HORIZON_S)",
        "max(work_s, MIN_HORIZON_S)",
    ),
    Mutant(
        "earlier arrivals overtake, too",
        "overtaking.py",
        "overtook = bisect_left(self._waiting, number)",
        "overtook = len(self._waiting)",
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
