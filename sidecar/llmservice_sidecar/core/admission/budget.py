"""What the memory rules share: everybody's need under a rule's own guess of lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llmservice_sidecar.core.admission.memory import Occupant, peak_tokens
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.rules import Running

# Tokens still to come in one answer of a request that has produced so many in each since it runs.
TokensLeft: TypeAlias = Callable[[Request, float], float]


def fits(
    request: Request,
    running: Sequence[Running],
    *,
    left: TokensLeft,
    capacity_tokens: float,
) -> bool:
    """Does the peak stay within the capacity if `request` joins? Alone it always may run."""
    if not running:
        return True
    occupants = [_occupant(item.request, item.generated, left) for item in running]
    return peak_tokens([*occupants, _occupant(request, 0, left)]) <= capacity_tokens


def _occupant(request: Request, generated: int, left: TokensLeft) -> Occupant:
    used = request.prompt_tokens + request.generated_tokens + generated
    tokens = max(left(request, generated / request.slots), 1.0)
    return Occupant(left_tokens=tokens, used_tokens=used, sequences=request.slots)
