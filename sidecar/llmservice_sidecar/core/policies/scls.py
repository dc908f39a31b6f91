"""SCLS: every answer is cut into equal slices, and all take turns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from llmservice_sidecar.core.policies.parameters import whole
from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request, RequestId

MAX_REMEMBERED: Final = 65_536  # more than can wait; older turns are of requests long gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Scls(Published):
    """Key = turn: a slice ends at the back of the queue; slices of 128 tokens (arXiv 2406.13511).

    Fixed slices make the time and memory of static batches predictable; with continuous batching
    what remains is round robin. Building batches of alike lengths and balancing them over
    instances has no counterpart in one replica's gate. It needs no predictor.
    """

    name: str = field(init=False, default="SCLS")
    slice_size_tokens: int = whole(128, at_least=1)
    _turns: dict[RequestId, int] = field(
        init=False, repr=False, compare=False, default_factory=dict[RequestId, int]
    )
    _numbers: Iterator[int] = field(
        init=False, repr=False, compare=False, default_factory=itertools.count
    )

    def offered(self, request: Request) -> None:
        """Give the request, or its next slice, the last turn."""
        self._turns.pop(request.id, None)  # so that it moves to the end
        self._turns[request.id] = next(self._numbers)
        if len(self._turns) > MAX_REMEMBERED:
            del self._turns[next(iter(self._turns))]

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (float(self._turns.get(request.id, 0)), request.arrived_at)

    def slice_tokens(self, request: Request, view: QueueView) -> int | None:  # noqa: ARG002 - protocol
        return self.slice_size_tokens
