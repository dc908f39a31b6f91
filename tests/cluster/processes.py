"""Child processes of the test cluster that cannot outlive their parent."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_TERM_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.1


class StartError(RuntimeError):
    """A process of the cluster did not come up; the message ends with its log."""


class Processes:
    """Starts processes, each with a log of its own, and ends them in reverse order."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start `command` in a process group of its own; its output goes to `<name>.log`."""
        with self.log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                [*_with_parent_death_signal(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                start_new_session=True,
            )

    def up(
        self, name: str, command: Sequence[str], ready: Callable[[], object], *, within_s: float
    ) -> None:
        """Start `command` and wait for it, as `wait` does; what does not come up is ended."""
        self.start(name, command)
        try:
            self.wait(name, ready, within_s=within_s)
        except BaseException:
            self.stop()
            raise

    def log(self, name: str) -> Path:
        """Where the output of `name` is."""
        return self._directory / f"{name}.log"

    def check(self) -> None:
        """Raise StartError, with the last lines of its log, if one has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise StartError(
                    f"{name} ended with status {process.returncode}:\n{self.tail(name)}"
                )

    def wait(self, name: str, ready: Callable[[], object], *, within_s: float) -> None:
        """Return when `ready` raises no OSError; raise StartError when one ends or is too slow."""
        deadline = time.monotonic() + within_s
        while True:
            self.check()
            try:
                ready()
            except OSError as error:
                if time.monotonic() > deadline:
                    text = f"{name} not ready in {within_s:.0f} s: {error}\n{self.tail(name)}"
                    raise StartError(text) from error
                time.sleep(_POLL_S)
            else:
                return

    def tail(self, name: str, lines: int = 15) -> str:
        """The last lines that `name` has written."""
        text = self.log(name).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """End all of them, last started first; those that do not listen are killed."""
        for name in reversed(list(self._running)):
            process = self._running.pop(name)
            _signal(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=_TERM_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                _signal(process.pid, signal.SIGKILL)
                process.wait(timeout=_TERM_TIMEOUT_S)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # ended by itself: what was wanted


def _with_parent_death_signal() -> list[str]:
    # The kernel kills the process when the *thread* that started it ends, so that a killed test
    # run leaves nothing: start clusters from a thread that lives as long as they do.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []
