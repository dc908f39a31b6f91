"""Which optional kinds the API server serves, as a value. Asks nobody itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llmservice_operator.kinds import WATCHED, Kind


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The optional kinds, as (apiVersion, kind), that are served."""

    served: frozenset[tuple[str, str]] = frozenset()

    def has(self, api_version: str, kind: str) -> bool:
        """Whether objects of this optional kind can be made."""
        return (api_version, kind) in self.served

    def serves(self, kind: Kind) -> bool:
        """Whether objects of this kind can be made: all that is not optional can."""
        return not kind.optional or self.has(kind.api_version, kind.kind)

    def watched(self) -> Sequence[Kind]:
        """The kinds that can hold something of a service."""
        return [kind for kind in WATCHED if self.serves(kind)]


NOTHING_OPTIONAL: Final = Capabilities()
