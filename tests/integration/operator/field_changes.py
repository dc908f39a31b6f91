"""How a change of a field is seen on what a service owns: the words of the tables."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from fakes.crd_schema import with_value
from fakes.rest import Rest
from llmservice_api.sidecar_config import LiveConfig, StaticConfig

Json = dict[str, Any]
# Most tests are not about pods, and eighty services with pods would be another test.
BASE: Json = {"suspend": True}


@dataclass(frozen=True, slots=True)
class Owned:
    """The objects of one service as they are now."""

    rest: Rest
    namespace: str
    name: str

    def the(self, plural: str, suffix: str = "") -> Json:
        """One object, empty when it is not there."""
        return self.rest.get(plural, self.namespace, f"{self.name}{suffix}")

    @property
    def template(self) -> Json:
        """The pod template; a change of it restarts pods."""
        found: Json = self.the("deployments").get("spec", {}).get("template", {})
        return found

    @property
    def template_hash(self) -> str:
        """Equal as long as no pod has to be replaced."""
        return hashlib.sha256(json.dumps(self.template, sort_keys=True).encode()).hexdigest()


Look = Callable[[Owned], Any]


@dataclass(frozen=True, slots=True)
class Change:
    """`path` goes from `old` to `new`, and `look` from the first of `seen` to the second."""

    path: str
    old: Any
    new: Any
    look: Look
    seen: tuple[Any, Any]
    restarts: bool
    beside: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def spec(self, value: Any) -> Json:
        """The service's whole spec with that value."""
        given = laid_over(with_value(self.path, value), self.beside)
        return laid_over(given, {key: BASE[key] for key in BASE if key not in given})


def laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """Both objects as one; where both say something, what is inside counts, then the second."""
    made: Json = copy.deepcopy(dict(under))
    for key, value in over.items():
        here: Any = made.get(key)
        both = isinstance(here, dict) and isinstance(value, dict)
        inner = cast("tuple[Json, Json]", (here, value))
        made[key] = laid_over(*inner) if both else copy.deepcopy(cast("Any", value))
    return made


def at(found: Any, *path: str | int) -> Any:
    """What is at a path of JSON; None when there is nothing."""
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return None
    return found


def named(entries: Any, name: str) -> Any:
    """The entry of a list with that name."""
    return next((entry for entry in entries or () if entry.get("name") == name), None)


def live(*path: str | int) -> Look:
    """A value of live.json, which running sidecars re-read."""
    return lambda owned: at(_file(owned, "live.json", LiveConfig), *path)


def static(*path: str | int) -> Look:
    """A value of static.json, which only a restart can change."""
    return lambda owned: at(_file(owned, "static.json", StaticConfig), *path)


def container(which: str, *path: str | int) -> Look:
    """A value of a container of the pod template: main, sidecar or fetch."""
    return lambda owned: at(_container(owned, which), *path)


def argument(flag: str, *, of: str = "main") -> Look:
    """The word after a flag, or after its `=`."""

    def look(owned: Owned) -> Any:
        words: list[str] = at(_container(owned, of), "args") or []
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == flag:
                return following
            if word.startswith(f"{flag}="):
                return word.partition("=")[2]
        return None

    return look


def variable(name: str, *path: str | int, of: str = "main") -> Look:
    """An environment variable of a container."""
    return lambda owned: at(named(at(_container(owned, of), "env"), name), *path)


def pod(*path: str | int) -> Look:
    """A value of the pod template's spec."""
    return lambda owned: at(owned.template, "spec", *path)


def volume(name: str, *path: str | int) -> Look:
    """A value of a volume of the pod template."""
    return lambda owned: at(named(at(owned.template, "spec", "volumes"), name), *path)


def the(plural: str, *path: str | int, suffix: str = "") -> Look:
    """A value of an owned object."""
    return lambda owned: at(owned.the(plural, suffix), *path)


def exists(plural: str) -> Look:
    """Whether there is such an object."""
    return lambda owned: bool(owned.the(plural))


def _file(owned: Owned, name: str, kind: type[StaticConfig | LiveConfig]) -> Json:
    """As a sidecar reads it: what is left out has its default."""
    text = owned.the("configmaps", "-config").get("data", {}).get(name)
    if text is None:
        return {}
    return json.loads(msgspec.json.encode(msgspec.json.decode(text, type=kind)))


def _container(owned: Owned, which: str) -> Any:
    spec = at(owned.template, "spec")
    every = [*(at(spec, "initContainers") or ()), *(at(spec, "containers") or ())]
    return named(every, which)
