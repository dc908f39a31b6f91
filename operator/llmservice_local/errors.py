"""What the command line tells a person when it cannot go on. No trace of Python, no logic."""

from __future__ import annotations


class CommandError(Exception):
    """A command failed for a reason that a person can act on.

    `cause` says what happened, `next_step` what to do about it, `detail` may be a log's tail.
    """

    def __init__(self, cause: str, *, next_step: str, detail: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.next_step = next_step
        self.detail = detail
