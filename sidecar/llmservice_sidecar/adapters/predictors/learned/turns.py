"""Long work in short steps, between which predictions get their turn."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

_T = TypeVar("_T")


def step(work: Generator[None, None, _T]) -> tuple[_T] | None:
    """The next step; what the work came to, as the only one of a tuple, once it has ended."""
    try:
        next(work)
    except StopIteration as end:
        return (end.value,)
    return None


def finish(work: Generator[None, None, _T]) -> _T:
    """All steps at once, for who has the time."""
    while True:
        ended = step(work)
        if ended is not None:
            return ended[0]
