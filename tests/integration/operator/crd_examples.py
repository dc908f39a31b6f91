"""What a row in a table of bad manifests is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bad:
    """A spec that one rule refuses. `rule`: where the rule stands and how its message begins."""

    id: str
    rule: tuple[str, str]
    names: str  # what the refusal must name
    spec: Json
    before: Json | None = None  # for rules about a change: what was there
    name: str = "svc"


def bad(id: str, at: str, message: str, names: str, **more: Any) -> Bad:  # noqa: A002 - pytest's word
    name = more.pop("name", "svc")
    before = more.pop("before", None)
    return Bad(id=id, rule=(at, message), names=names, spec=more, before=before, name=name)
