"""What an engine step costs. Known machines by name, others from a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, TypeGuard, cast


class CostModelError(ValueError):
    """A cost model is unknown or its file is bad; the message says what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """One step takes `step_s + per_decode_s x decodes + per_prefill_token_s x prefill tokens`."""

    step_s: float
    per_decode_s: float
    per_prefill_token_s: float


COST_MODELS: Final[Mapping[str, CostModel]] = {
    # Measured: a random 0.8 M-parameter model on one CPU core.
    "tiny-cpu": CostModel(step_s=1.5e-3, per_decode_s=0.047e-3, per_prefill_token_s=11.5e-6),
    # Published fit of a 7B model on one H100.
    "h100-7b": CostModel(step_s=7.05e-3, per_decode_s=25.4e-6, per_prefill_token_s=19.5e-6),
}


def load_cost_model(name: str) -> CostModel:
    """A known cost model by name, or one from a JSON file. Raises CostModelError."""
    if name in COST_MODELS:
        return COST_MODELS[name]
    known = ", ".join(COST_MODELS)
    try:
        parsed: object = json.loads(Path(name).read_text())
    except OSError as error:
        raise CostModelError(
            f"cost model {name!r} is neither known ({known}) nor a file that can be read: "
            f"{error.strerror}"
        ) from error
    except ValueError as error:
        raise CostModelError(f"cost model {name}: not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise CostModelError(f"cost model {name}: expected an object, got {parsed!r}")
    return _from_object(cast("dict[str, object]", parsed), name)


def _from_object(values: Mapping[str, object], name: str) -> CostModel:
    wanted = [field.name for field in fields(CostModel)]
    if unknown := sorted(set(values) - set(wanted)):
        raise CostModelError(f"cost model {name}: unknown {unknown}; allowed: {wanted}")
    costs: dict[str, float] = {}
    for field in wanted:
        value = values.get(field)
        if not _is_seconds(value):
            raise CostModelError(
                f"cost model {name}: {field} is {value!r}; allowed: seconds, 0 or more"
            )
        costs[field] = float(value)
    if costs["step_s"] + costs["per_decode_s"] <= 0:
        raise CostModelError(
            f"cost model {name}: step_s and per_decode_s are both 0: no time passes"
        )
    return CostModel(**costs)


def _is_seconds(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0
