"""How much KV memory running requests will need at their worst moment, if lengths come true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Occupant(NamedTuple):
    """Tokens of the KV cache that a request has now and will ask for.

    `left_tokens` are still to come in each of its `sequences`; `used_tokens` are held by all of
    them together: prompt and output so far.
    """

    left_tokens: float
    used_tokens: float
    sequences: int = 1


def peak_tokens(occupants: Iterable[Occupant]) -> float:
    """The most KV tokens that will be in use at once; 0 for nobody. O(n log n).

    Past-Future (arXiv 2507.10150): sorted by what is left, longest first, the need when the i-th
    ends is left_i x i + the sum of used_j over j <= i (a request counts once for each of its
    sequences); the peak is the largest of these.
    """
    peak = used = 0.0
    sequences = 0
    for occupant in sorted(occupants, reverse=True):
        used += occupant.used_tokens
        sequences += occupant.sequences
        peak = max(peak, occupant.left_tokens * sequences + used)
    return peak
