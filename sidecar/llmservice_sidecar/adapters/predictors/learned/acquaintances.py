"""Replicas that were met: who they are, what they said last, when they left, what was wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

FORGET_AFTER_S: Final = 300.0  # a name may lack a pod for a while that restarts
MAX_TROUBLES: Final = 64
LONGEST_TEXT: Final = 300  # characters of a line in the log: others may choose its words

State = tuple[bytes, int]  # digest of what was said, own changes of the world until then


@dataclass(frozen=True, slots=True)
class _Met:
    replica: str
    state: State


class Acquaintances:
    """Addresses and the replicas behind them. One that leaves is gone after `FORGET_AFTER_S`."""

    def __init__(self) -> None:
        self._met: dict[str, _Met] = {}
        self._seen_at: dict[str, float] = {}  # by replica

    def said_before(self, address: str, state: State) -> bool:
        """Whether who is there said just this the last time."""
        met = self._met.get(address)
        return met is not None and met.state == state

    def met(self, address: str, replica: str, state: State) -> None:
        """A replica answered at an address."""
        self._met[address] = _Met(replica, state)

    def seen(self, addresses: Iterable[str], *, now: float) -> None:
        """There are these addresses, and no other."""
        self._met = {address: self._met[address] for address in addresses if address in self._met}
        self._seen_at |= {met.replica: now for met in self._met.values()}

    def gone(self, *, now: float) -> list[str]:
        """Replicas that left long enough ago; each is told once."""
        gone = [name for name, at in self._seen_at.items() if now - at >= FORGET_AFTER_S]
        for replica in gone:
            del self._seen_at[replica]
        return gone


class Troubles:
    """Logs what is wrong once per kind until it is over, not every minute."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._known: dict[str, set[str]] = {}

    def note(self, about: str, error: Exception | None, text: str) -> None:
        """Something is wrong with, say, an address; the kind is that of `error`."""
        kinds = self._known.setdefault(about, set())
        kind = type(error).__name__
        if kind not in kinds:
            kinds.add(kind)
            shown = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
            self._log.warning("%s", shown)
        if len(self._known) > MAX_TROUBLES:
            del self._known[next(iter(self._known))]  # addresses come and go

    def over(self, about: str) -> None:
        """It is well again."""
        self._known.pop(about, None)
