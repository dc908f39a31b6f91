"""Where the time of a streamed answer went: at the engine or at the client. Knows no bytes."""

from __future__ import annotations

from collections.abc import Callable


class StreamPace:
    """Who held a streamed answer up: the engine between two chunks, or the client taking one.

    Times are the clock's. Two readings a chunk, nothing else: this runs for every token.
    """

    __slots__ = ("_asked_at", "_clock", "_given_at", "_stalled_s", "longest_gap_s")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked_at: float | None = None  # the engine, for a chunk after the first token
        self._given_at: float | None = None  # a chunk to the client, who has not taken it yet
        self._stalled_s = 0.0
        self.longest_gap_s = 0.0

    def came(self) -> None:
        """The engine has sent a chunk."""
        self._given_at = now = self._clock()
        if self._asked_at is not None and now - self._asked_at > self.longest_gap_s:
            self.longest_gap_s = now - self._asked_at

    def asks(self) -> None:
        """The client has taken what came; the engine is asked for more."""
        now = self._clock()
        if self._given_at is not None:
            self._stalled_s += now - self._given_at
            self._given_at = None
        self._asked_at = now

    @property
    def client_stall_s(self) -> float:
        """Seconds in which chunks were there and not taken, up to now."""
        since = self._given_at
        return self._stalled_s + (0.0 if since is None else self._clock() - since)
