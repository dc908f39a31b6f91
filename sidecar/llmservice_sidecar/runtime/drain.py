"""Leaving without losing a request: not ready at once, refusing a little later, then empty."""

from __future__ import annotations

from collections.abc import Callable


class Drain:
    """The drain state machine: serving, announced (still accepting), refusing.

    `in_use` says how many requests are queued or running.
    """

    def __init__(self, *, in_use: Callable[[], int], announce_s: float = 5.0) -> None:
        raise NotImplementedError

    @property
    def draining(self) -> bool:
        """Not ready and NOT_SERVING."""
        raise NotImplementedError

    @property
    def refusing(self) -> bool:
        """New requests are rejected with reason `draining`."""
        raise NotImplementedError

    async def run(self, timeout_s: float) -> bool:
        """Drain (joining one under way); returns True when empty, False at the timeout.

        Returns True also when `cancel` ended the drain.
        """
        raise NotImplementedError

    def make_final(self) -> None:
        """SIGTERM has come: from now on `cancel` has no effect."""
        raise NotImplementedError

    def cancel(self) -> None:
        """The engine came back and nobody ends us: serve again."""
        raise NotImplementedError
