"""Reading Kubernetes JSON with types: absent and null both mean empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

Manifest = dict[str, Any]  # Kubernetes JSON


def section(manifest: Mapping[str, Any] | None, *path: str) -> Manifest:
    """The object at `path`; empty when it or anything above it is absent."""
    here: Any = manifest
    for key in path:
        if not isinstance(here, Mapping):
            return {}
        here = cast("Mapping[str, Any]", here).get(key)
    return dict(cast("Mapping[str, Any]", here)) if isinstance(here, Mapping) else {}


def entries(manifest: Mapping[str, Any] | None, *path: str) -> list[Manifest]:
    """The list of objects at `path`; empty when it is absent."""
    found = section(manifest, *path[:-1]).get(path[-1])
    return cast("list[Manifest]", found) if isinstance(found, list) else []


def condition(manifest: Mapping[str, Any] | None, kind: str) -> Manifest:
    """The condition of that type in `status.conditions`; empty when there is none."""
    for entry in entries(manifest, "status", "conditions"):
        if entry.get("type") == kind:
            return entry
    return {}
