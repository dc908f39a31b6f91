"""May the head of the queue run beside what runs now? Rules know sizes, never order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmservice_sidecar.core.request import Request


@dataclass(slots=True)
class Running:
    """A request in flight. `first_token_at` is None until its first token was seen."""

    request: Request
    admitted_at: float
    first_token_at: float | None = None
    generated: int = 0


class AdmissionRule(Protocol):
    """May the head run beside what runs now? (KV forecast, class caps, promoted share)"""

    def admits(self, request: Request, running: Sequence[Running]) -> bool: ...
