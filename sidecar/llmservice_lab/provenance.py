"""Where a figure comes from: the commit and the machine. Reads the system, decides nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from llmservice_api import __version__


def commit() -> str:
    """The checkout's commit, `+changes` if it differs from it; without a checkout the version."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return f"v{__version__}"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{head}+changes" if changed else head


def hardware() -> str:
    """Processor, usable cores and memory in words."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, {pages * size / 2**30:.0f} GiB"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed program and arguments
            ["git", *arguments],  # noqa: S607 - git is wherever PATH has it
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # an installed package has no checkout, and may have no git
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
