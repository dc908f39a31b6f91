"""How the latest predictions went, in words for the status: is it broken, is it mostly late?

Counts and names of errors only: an error's own text may quote a prompt.
"""

from __future__ import annotations

from collections import deque
from typing import Final

LATEST: Final = 64  # predictions that are looked at
FEWEST: Final = 8  # before anything is said
MOST: Final = 0.5  # of the latest: from here on it is the rule


class Health:
    """The latest predictions of a model. Told from two threads: each queue has one writer."""

    def __init__(self, *, timeout_s: float) -> None:
        """`timeout_s`: the deadline, for the message."""
        self._timeout_s = timeout_s
        self._failed: deque[str | None] = deque(maxlen=LATEST)  # the error's name; None: none
        self._late: deque[bool] = deque(maxlen=LATEST)

    def answered(self, failure: str | None) -> None:
        """The model has answered a query (None), or failed with an error of this name."""
        self._failed.append(failure)

    def asked(self, *, late: bool) -> None:
        """Somebody has waited for a prediction, up to the deadline or beyond."""
        self._late.append(late)

    @property
    def broken(self) -> str:
        """Why it cannot be relied on; empty when it can."""
        latest = list(self._failed)
        failures = [name for name in latest if name is not None]
        if not _is_rule(len(failures), of=len(latest)):
            return ""
        return f"most predictions fail ({failures[-1]}); those requests get the running mean"

    @property
    def slow(self) -> str:
        """A remark for one that answers, but mostly after the deadline; else empty."""
        latest = list(self._late)
        if not _is_rule(sum(latest), of=len(latest)):
            return ""
        return (
            f"most predictions come after timeoutMilliseconds ({self._timeout_s * 1000:g}); "
            "until then requests stand by the running mean"
        )


def _is_rule(count: int, *, of: int) -> bool:
    return of >= FEWEST and count >= MOST * of
