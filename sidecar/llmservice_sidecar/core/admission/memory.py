"""How much KV memory running requests will need at their worst moment, if lengths come true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Held(NamedTuple):
    """Tokens of KV memory a request holds now (prompt and output so far), and how many come yet."""

    used: float
    left: float


def future_peak_tokens(held: Iterable[Held]) -> float:
    """The most KV tokens that will be in use at once; 0 for nobody.

    Past-Future (arXiv 2507.10150): sorted by what is left, longest first, the need at the end of
    the i-th is left_i x i + the sum of used_j over j <= i; the peak is the largest of these.
    """
    peak = used = 0.0
    for count, request in enumerate(sorted(held, key=_left, reverse=True), 1):
        used += request.used
        peak = max(peak, request.left * count + used)
    return peak


def _left(request: Held) -> float:
    return request.left
