"""Whose an object is, and whether it already is what we would apply. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec
from llmservice_api import names

from llmservice_operator.conditions import Finding
from llmservice_operator.kube_json import Manifest, entries, section
from llmservice_operator.service import Service

# Of the manifest as we sent it: a field that we no longer send is a change as well.
ANNOTATION_APPLIED: Final = f"{names.GROUP}/applied-hash"


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with the hash of itself, as it is sent."""
    text = msgspec.json.encode(manifest, order="sorted")
    digest = hashlib.sha256(text).hexdigest()[:16]
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**section(metadata, "annotations"), ANNOTATION_APPLIED: digest}
    return {**manifest, "metadata": metadata}


def is_as_sent(live: Manifest, sent: Manifest) -> bool:
    """Whether every field that we would send is already there with that value."""
    return _contains(live, sent)


def is_owned(live: Manifest, service: Service) -> bool:
    """Whether this very LLMService, not an earlier one of its name, controls the object."""
    return any(
        owner.get("uid") == service.uid and owner.get("controller")
        for owner in entries(live, "metadata", "ownerReferences")
    )


def obstacle(live: Manifest, service: Service) -> Finding | None:
    """Why an object that has a name we need must not be touched; None when it is ours."""
    if is_owned(live, service):
        if "deletionTimestamp" in live["metadata"]:
            return _being_deleted(live)
        return None
    for owner in entries(live, "metadata", "ownerReferences"):
        earlier = (names.KIND, service.name)
        if owner.get("controller") and (owner.get("kind"), owner.get("name")) == earlier:
            return _being_deleted(live)
    what = f"{live['kind']} {live['metadata']['name']}"
    return Finding(
        "NameConflict",
        f"{what} exists and belongs to somebody else; delete or rename it, or delete this "
        "LLMService and create it under another name",
    )


def surplus(owned: Iterable[Manifest], wanted: Iterable[Manifest]) -> list[Manifest]:
    """Owned objects that are not wanted any more and not yet on their way out."""
    kept = {_identity(manifest) for manifest in wanted}
    return [
        manifest
        for manifest in owned
        if _identity(manifest) not in kept and "deletionTimestamp" not in manifest["metadata"]
    ]


def find(objects: Iterable[Manifest], manifest: Manifest) -> Manifest | None:
    """The live object that a manifest is about."""
    wanted = _identity(manifest)
    return next((live for live in objects if _identity(live) == wanted), None)


def _being_deleted(live: Manifest) -> Finding:
    what = f"{live['kind']} {live['metadata']['name']}"
    return Finding("PreviousBeingDeleted", f"{what} is still being deleted; it is made anew then")


def _identity(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def _contains(live: Any, sent: Any) -> bool:
    # Quantities that the API server rewrites ("1024Mi" as "1Gi") look different here; applying
    # them again changes nothing there, so the price of a false alarm is one request.
    if isinstance(sent, dict):
        if not isinstance(live, dict):
            return sent == {} and live is None
        found = cast("Manifest", live)
        return all(
            _contains(found.get(key), value) for key, value in cast("Manifest", sent).items()
        )
    if isinstance(sent, list):
        wanted, have = cast("list[Any]", sent), cast("list[Any]", live or [])
        return len(have) == len(wanted) and all(map(_contains, have, wanted))
    return live == sent
