"""The labels of an image: what it is, from which sources it was made, and on which base."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from catalogue import ROOT, Image, version
from container_engine import EngineError

HOME: Final = "https://github.com/llmservice/llmservice"
_OCI: Final = "org.opencontainers.image."


def fixed_labels(image: Image, *, base: str) -> dict[str, str]:
    """The labels that depend on what the image holds and on nothing else."""
    labels = {
        "title": f"llmservice-{image.name}",
        "description": image.description,
        "version": version(),
        "source": HOME,
        "url": HOME,
        "documentation": f"{HOME}/blob/v{version()}/README.md",
        "vendor": "The LLMService authors",
        "licenses": "Apache-2.0",
        "base.name": base.partition("@")[0],
    }
    if "@" in base:
        labels["base.digest"] = base.partition("@")[2]
    return {_OCI + key: value for key, value in labels.items()}


def origin_labels(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The commit and its time: SOURCE_DATE_EPOCH (seconds) where it is set, else the commit's own.

    Outside a git checkout there is no revision, and without SOURCE_DATE_EPOCH no time either.
    """
    revision, committed_s = _head()
    given = environment.get("SOURCE_DATE_EPOCH") or committed_s
    labels = {_OCI + "revision": revision} if revision else {}
    if given:
        if not given.isdigit():
            raise EngineError(f"SOURCE_DATE_EPOCH={given!r}: must be whole seconds since 1970")
        labels[_OCI + "created"] = datetime.fromtimestamp(int(given), UTC).isoformat()
    return labels


def _head() -> tuple[str, str]:
    """The commit and its time in seconds since 1970; two empty strings without git."""
    command = ["git", "log", "-1", "--format=%H %ct"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "", ""
    revision, _, committed_s = done.stdout.strip().partition(" ")
    return (revision, committed_s) if done.returncode == 0 else ("", "")
