"""What both doors take from a client beside its request: who it is, how urgent it says it is."""

from __future__ import annotations

import hashlib
from typing import Final

MAX_TENANT_CHARS: Final = 128


def tenant_of(given: str | None) -> str | None:
    """The tenant by a name of at most 128 printable ASCII characters; None: it names none.

    A longer or other name becomes its SHA-256: cut off, two tenants could be taken for one.
    """
    if not given:
        return None
    if len(given) <= MAX_TENANT_CHARS and given.isascii() and given.isprintable():
        return given
    digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
    return f"sha256:{digest}"
