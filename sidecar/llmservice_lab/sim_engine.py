"""What the simulator asks of an engine on virtual time. Two engines answer to it.

`VirtualEngine` is a plain model of continuous batching; `VllmEngine` is vLLM's own scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

BLOCK_TOKENS: Final = 16  # tokens of a KV block: vLLM's default on GPUs
MAX_BATCHED_TOKENS: Final = 8192  # tokens of a step: vLLM's default for a server on an H100


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the engine of a run differs from vLLM's defaults.

    `kv_tokens` bounds the KV cache; None: it holds everything. `scheduler_class` is the path of a
    vLLM scheduler class that orders requests itself: then the gate holds none of them back.
    """

    kv_tokens: int | None = None
    prefix_caching: bool = True
    max_batched_tokens: int = MAX_BATCHED_TOKENS
    scheduler_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """A request as the engine gets it; `index` names it.

    `cached_tokens` of the prompt are in the prefix cache. After an earlier slice the engine's
    prompt is the prompt and the `generated_tokens`; `ends` tells whether the answer is complete
    after these `output_tokens` or was only cut. Of two priorities the larger is served first.
    """

    index: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    generated_tokens: int = 0
    ends: bool = True
    priority: int = 0
    predicted_tokens: float = 1.0

    def prefill_tokens(self, *, prefix_caching: bool) -> int:
        """Tokens to compute before the next one comes out.

        What is cached counts in whole blocks, and at least one token is always computed. Of an
        earlier slice all but the last token has been computed.
        """
        total = self.prompt_tokens + self.generated_tokens
        if not prefix_caching or not total:
            return total
        held = total - 1 if self.generated_tokens else min(self.cached_tokens, total - 1)
        return total - held // BLOCK_TOKENS * BLOCK_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a step brought. It began at `began_s`, with the first work on `scheduled`, until `now`.

    `preempted` lost their place and their KV blocks when it began.
    """

    began_s: float
    now: float
    scheduled: list[int]
    first_tokens: list[int]
    finished: list[int]
    preempted: list[int] = field(default_factory=list[int])


class Engine(Protocol):
    """Runs what it is given; time is virtual and moves by the costs of what is scheduled."""

    def start(self, request: Starting, *, now: float) -> None:
        """A request joins at the next step; at once when the engine is idle."""
        ...

    def next_event_s(self) -> float | None:
        """When the next step with news ends; None when idle."""
        ...

    def advance(self) -> Progress:
        """Go to the next event. Call `next_event_s` before; the engine must not be idle."""
        ...

    def emitted(self, *, now: float) -> Iterable[tuple[int, int]]:
        """Index and output tokens so far of those that have some; without earlier slices."""
        ...
