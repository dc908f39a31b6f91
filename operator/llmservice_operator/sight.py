"""Whether events still reach this operator: what a listing shows, a watch must have told.

Versions of one kind only grow, and a watch tells them in order. So one number for each watch is
enough: a listed object that is newer than all that its watch has told is an event that has not
come. In a quiet cluster nothing is newer, and while the API server is away nothing is listed:
neither looks like blindness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from llmservice_api import names

from llmservice_operator.kinds import Kind
from llmservice_operator.kube_json import Manifest

_SERVICE: Final = (names.API_VERSION, names.KIND)


class Watch(NamedTuple):
    """One stream of events; `namespace` is empty where it is the whole cluster's."""

    api_version: str
    kind: str
    namespace: str


@dataclass(frozen=True, slots=True)
class _Missing:
    version: int
    since_s: float


class Sight:
    """What was listed against what was told. `clock` is monotonic, in seconds."""

    def __init__(self, *, namespaced: bool, clock: Callable[[], float]) -> None:
        self._namespaced = namespaced
        self._clock = clock
        self._told: dict[Watch, int] = {}
        self._missing: dict[Watch, _Missing] = {}
        self._reachable_since_s = clock()
        self._watched: frozenset[tuple[str, str]] | None = None

    def watching(self, kinds: Iterable[Kind]) -> None:
        """From these alone events can come, and from services; until this is said, from all."""
        self._watched = frozenset((kind.api_version, kind.kind) for kind in kinds) | {_SERVICE}

    def told(self, manifest: Manifest) -> None:
        """An event about this object has come."""
        watch, version = self._read(manifest)
        self._told[watch] = max(version, self._told.get(watch, 0))
        missing = self._missing.get(watch)
        if missing is not None and version >= missing.version:
            del self._missing[watch]

    def listed(self, manifest: Manifest) -> bool:
        """This object is there now; whether its watch has told so, if it has one."""
        watch, version = self._read(manifest)
        if self._watched is not None and watch[:2] not in self._watched:
            return True  # nobody watches
        if version <= self._told.get(watch, 0):
            return True
        # The oldest that is missing decides: later ones must not renew its time.
        self._missing.setdefault(watch, _Missing(version, self._clock()))
        return False

    def away(self) -> None:
        """The API server could not be reached: no watch can be expected to tell anything."""
        self._reachable_since_s = self._clock()

    @property
    def blind_s(self) -> float:
        """How long an event has been missing although the API server answers; 0 when none is."""
        if not self._missing:
            return 0.0
        oldest_s = min(missing.since_s for missing in self._missing.values())
        return self._clock() - max(oldest_s, self._reachable_since_s)

    def missing(self) -> list[Watch]:
        """The watches that owe an event, in the order in which it was noticed."""
        return list(self._missing)

    def _read(self, manifest: Manifest) -> tuple[Watch, int]:
        metadata = manifest["metadata"]
        namespace = metadata["namespace"] if self._namespaced else ""
        watch = Watch(manifest["apiVersion"], manifest["kind"], namespace)
        return watch, int(metadata["resourceVersion"])
