"""What a request tells a scheduler class, and the vLLM version that the classes are made for."""

# pyright: basic, reportMissingImports=false
# vllm exists in the engine's environment only.

from __future__ import annotations

import math
from typing import Any, Final

PREDICTED_TOKENS: Final = "predicted_tokens"  # in `vllm_xargs`: output tokens, larger runs later
TESTED_VERSION: Final = "0.32.0"


def require_tested_version(scheduler: str, found: str) -> None:
    """Raises RuntimeError that names the version to install when `found` is another one."""
    # A local build adds "+cpu" and the like to the same release.
    if found.partition("+")[0] != TESTED_VERSION:
        raise RuntimeError(
            f"scheduler class {scheduler} was tested with vLLM {TESTED_VERSION} and this is "
            f"{found}: install vllm=={TESTED_VERSION}, or leave --scheduler-cls out"
        )


def predicted_tokens(request: Any) -> float:
    """The predicted output tokens of a vLLM request.

    One that says nothing usable counts as `max_tokens` long: an error here would end the engine.
    """
    params = request.sampling_params
    value = (params.extra_args or {}).get(PREDICTED_TOKENS) if params is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return float(request.max_tokens)
    return float(value)
