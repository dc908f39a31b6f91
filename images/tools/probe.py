"""Run in a new image: it holds what its bill of materials lists, and nothing to install with.

    probe.py SBOM

Standard library only; prints a line for each finding and ends with 1 when there are any, which
fails the build.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Collection, Iterable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

INSTALLERS: Final = ("pip", "ensurepip")
LEAN: Final = ("llmservice-operator", "llmservice-sidecar")


def normal(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def findings(
    sbom: dict[str, Any], *, installed: Iterable[tuple[str, str]], modules: Collection[str]
) -> list[str]:
    """What is wrong: `installed` are names with versions, `modules` those that can be imported."""
    found = {(normal(name), version) for name, version in installed}
    listed = {(normal(each["name"]), each["version"]) for each in sbom["components"]}
    lines = [
        f"installed but not in the bill of materials: {each}" for each in sorted(found - listed)
    ]
    lines += [f"in the bill of materials but not there: {each}" for each in sorted(listed - found)]
    lines += [f"can install software: {name}" for name in INSTALLERS if name in modules]
    lean = sbom["metadata"]["component"]["name"] in LEAN
    if lean and "torch" in modules:
        lines.append("holds torch, which belongs into engines")
    return lines


def main() -> int:
    """Look at the image around this process."""
    names = (*INSTALLERS, "torch")
    lines = findings(
        json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")),
        installed=[(each.metadata["Name"], each.version) for each in distributions()],
        modules=[name for name in names if importlib.util.find_spec(name) is not None],
    )
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
