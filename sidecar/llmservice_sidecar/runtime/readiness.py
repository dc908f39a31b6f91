"""Ready = engine healthy and not draining; who asks is told when it changes."""

from __future__ import annotations

from collections.abc import Callable

from llmservice_sidecar.runtime.drain import Drain


class Readiness:
    """Joins engine health and drain to the one answer of /readyz and grpc.health.v1."""

    def __init__(self, drain: Drain) -> None:
        raise NotImplementedError

    @property
    def ready(self) -> bool: ...

    @property
    def draining(self) -> bool: ...

    @property
    def engine_healthy(self) -> bool: ...

    @property
    def engine_message(self) -> str: ...

    def watch(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(ready)` at once and then whenever it changes."""
        raise NotImplementedError
