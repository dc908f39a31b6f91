"""Become a command that ends with its parent: `python -m llmservice_local.child PARENT CMD...`.

A wrapper and not a hook between fork and exec: the parent runs threads (gRPC), and Python code in a
forked copy of a threaded process can hang. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then replace it by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)  # it ended before the tie was made
    os.execvp(command[0], command)  # noqa: S606 - a command line that the parent made


if __name__ == "__main__":
    main()
