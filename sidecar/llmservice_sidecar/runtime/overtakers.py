"""Where the traces are of those who went ahead of others, for links to them. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from opentelemetry.trace import SpanContext

from llmservice_sidecar.core.request import RequestId

# Overtakers have often ended when the overtaken one is admitted and names them.
MAX_OVERTAKERS: Final = 4096


class Overtakers:
    """The sampled ones among the latest who overtook somebody, for as long as somebody waits."""

    def __init__(self, *, most: int = MAX_OVERTAKERS) -> None:
        self._contexts: dict[RequestId, SpanContext] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._contexts)

    def add(self, request_id: RequestId, context: SpanContext) -> None:
        """It was admitted before somebody who had come earlier. Unsampled ones are not kept."""
        if not context.trace_flags.sampled:
            return  # its trace is nowhere to be found
        self._contexts.pop(request_id, None)  # a client may use an id again: the latest counts
        self._contexts[request_id] = context
        if len(self._contexts) > self._most:
            del self._contexts[next(iter(self._contexts))]

    def among(self, ids: Iterable[RequestId]) -> Iterator[tuple[RequestId, SpanContext]]:
        """Those of `ids` whose traces are known."""
        for request_id in ids:
            context = self._contexts.get(request_id)
            if context is not None:
                yield request_id, context

    def forget(self) -> None:
        """Nobody waits: nobody can have been overtaken."""
        self._contexts.clear()
