"""What a service account did, from the API server's audit log, and what it was granted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from llmservice_api import names

_CREATED: Final = 201
_POD: Final = "authentication.kubernetes.io/pod-name"


class Right(NamedTuple):
    """One thing that may be done to one kind of object."""

    group: str
    resource: str  # with its subresource: llmservices/status
    verb: str


# Asked for by the admission plugin that guards owner references, as a part of every creation of an
# object whose owner must outlive it; the audit log has no line of its own for it.
_OWNING: Final = Right(names.GROUP, f"{names.PLURAL}/finalizers", "update")


@dataclass(frozen=True, slots=True)
class Deeds:
    """What was done, and what was tried and forbidden."""

    done: frozenset[Right]
    forbidden: frozenset[Right]


def deeds(log: Path, user: str, *, offset: int, pods: frozenset[str] | None = None) -> Deeds:
    """Everything that `user` did after the first `offset` bytes of the log.

    With `pods`, only from pods of these names: one that is being ended may have lost its rights.
    """
    done: set[Right] = set()
    forbidden: set[Right] = set()
    with log.open("rb") as file:
        file.seek(offset)
        for line in file:
            event: dict[str, Any] = json.loads(line)
            if event["user"]["username"] != user or "resource" not in event.get("objectRef", {}):
                continue  # somebody else, or what everybody may ask (discovery, version)
            if pods is not None and not pods.intersection(event["user"]["extra"][_POD]):
                continue
            found = _rights(event)
            decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
            (done if decision == "allow" else forbidden).update(found)
    return Deeds(frozenset(done), frozenset(forbidden))


def _rights(event: dict[str, Any]) -> list[Right]:
    target = event["objectRef"]
    resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
    group = target.get("apiGroup", "")
    found = [Right(group, resource, event["verb"])]
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == _CREATED:
        # An apply that makes an object needs both rights.
        found.append(Right(group, resource, "create"))
        if resource != "events":
            found.append(_OWNING)
    return found


def granted(manifests: Sequence[dict[str, Any]], account: str) -> frozenset[Right]:
    """What the roles among `manifests` that are bound to the service account grant."""
    bound = {
        (item["roleRef"]["kind"], item["roleRef"]["name"])
        for item in manifests
        if item["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        and any(subject["name"] == account for subject in item["subjects"])
    }
    roles = [item for item in manifests if (item["kind"], item["metadata"]["name"]) in bound]
    return frozenset(right for role in roles for rule in role["rules"] for right in _of(rule))


def _of(rule: dict[str, Any]) -> Iterable[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                yield Right(group, resource, verb)
