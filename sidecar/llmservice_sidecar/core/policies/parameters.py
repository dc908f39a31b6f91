"""Parameters of policies: numbers with bounds, given as strings under camelCase keys.

Knows no policy: a policy's fields say what may be set and in which bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields
from typing import Any, Final, NamedTuple, cast

_BOUNDS: Final = "bounds"
_SECONDS: Final = "_s"


class Bounds(NamedTuple):
    """Which values a parameter may have, ends included."""

    least: float
    most: float
    whole: bool

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.most == math.inf:
            return f"{kind} of at least {self.least:g}"
        return f"{kind} from {self.least:g} to {self.most:g}"

    def allows(self, value: float) -> bool:
        in_range = math.isfinite(value) and self.least <= value <= self.most
        return in_range and (not self.whole or value == int(value))


def number(default: float, *, at_least: float, at_most: float = math.inf) -> float:
    """A dataclass field that users may set to a number."""
    bounds = Bounds(at_least, at_most, whole=False)
    return field(default=default, metadata={_BOUNDS: bounds})


def whole(default: int, *, at_least: int, at_most: float = math.inf) -> int:
    """A dataclass field that users may set to a whole number."""
    bounds = Bounds(at_least, at_most, whole=True)
    return field(default=default, metadata={_BOUNDS: bounds})


def check_bounds(policy: object) -> None:
    """Refuse a policy with a parameter out of its bounds: ValueError naming both."""
    for each in _parameters(policy.__class__):
        value, bounds = getattr(policy, each.name), _bounds(each)
        if not bounds.allows(value):
            raise ValueError(f"{each.name} is {value}, must be {bounds}")


def known_parameters(policy: Callable[..., object]) -> dict[str, Bounds]:
    """What users may set, by the name they use: `stepTokens` for a field `step_tokens`."""
    return {_key(each.name): _bounds(each) for each in _parameters(policy)}


def parse_parameters(policy: Callable[..., object], given: Mapping[str, str]) -> dict[str, float]:
    """Arguments of the policy's constructor. Raises ValueError naming key, value and allowed."""
    known = {_key(each.name): each for each in _parameters(policy)}
    arguments: dict[str, float] = {}
    for key, text in given.items():
        if key not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise ValueError(f"policyParameters.{key} is not known; allowed: {allowed}")
        bounds = _bounds(known[key])
        value = _number(text)
        if value is None or not bounds.allows(value):
            raise ValueError(f"policyParameters.{key} is {text!r}; allowed: {bounds}")
        arguments[known[key].name] = int(value) if bounds.whole else value
    return arguments


def _parameters(policy: Callable[..., object]) -> list[Field[Any]]:
    # A policy is made by its class; `Callable` says what its constructor gives.
    return [each for each in fields(cast("type[Any]", policy)) if _BOUNDS in each.metadata]


def _bounds(parameter: Field[Any]) -> Bounds:
    return cast("Bounds", parameter.metadata[_BOUNDS])


def _key(name: str) -> str:
    if name.endswith(_SECONDS):
        name = name.removesuffix(_SECONDS) + "_seconds"
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
