"""Chance that is the same in every run and every process: drawn from a name, not from a state."""

from __future__ import annotations

import hashlib


def uniform(name: str) -> float:
    """A number in [0, 1) that belongs to `name`; those of different names are independent."""
    drawn = hashlib.blake2b(name.encode(), digest_size=6).digest()
    return int.from_bytes(drawn) / 2**48
