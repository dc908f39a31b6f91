"""Child processes that are watched, and end with this one. Knows nothing of what they run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from llmservice_local.errors import CommandError
from llmservice_local.pod import ProcessPlan

_TAIL_LINES: Final = 30


class ChildProcess:
    """One running process whose output goes to a log file.

    The file is the child's own: through a pipe, a grandchild that outlives the child would keep its
    output open, and its end would not be seen.
    """

    def __init__(self, plan: ProcessPlan, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = plan.name
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, plan: ProcessPlan, *, log: Path, extra: Mapping[str, str]) -> Self:
        """Start `plan` in a session of its own; `extra` joins its environment."""
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "llmservice_local.child", str(os.getpid()), *plan.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=_inherited() | dict(plan.environment) | dict(extra),
                # Ctrl-C must reach the parent only: it drains before it ends its children.
                start_new_session=True,
            )
        return cls(plan, process, log)

    @property
    def ended(self) -> bool:
        """It has an exit code."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await self._process.wait()

    def line(self, prefix: str) -> str | None:
        """The first complete line of its output that starts with `prefix`; None: not yet."""
        for line in self.log.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith(prefix) and line.endswith("\n"):
                return line
        return None

    async def stop(self, number: signal.Signals, *, grace_s: float) -> None:
        """Signal its process group, SIGKILL after `grace_s`; twice is once."""
        if not self.ended:
            self._signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_s)
        # Also when it has ended: a child of its own may be left of the group.
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def tail(self) -> str:
        """The last lines of the log, after the lines before them that name an error."""
        lines = self.log.read_text(errors="replace").splitlines()
        last = lines[-_TAIL_LINES:]
        errors = [line for line in lines[:-_TAIL_LINES] if "ERROR" in line or "Error:" in line]
        return "\n".join([*errors[-_TAIL_LINES:], *last])

    def failure(self, code: int) -> CommandError:
        """What to tell when it ended by itself."""
        return CommandError(
            f"the {self.name} ended with code {code}",
            next_step=f"read the lines above; the whole log is {self.log}",
            detail=self.tail(),
        )

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of it has ended: what the signal is for
            os.killpg(self._process.pid, number)


def _inherited() -> dict[str, str]:
    # The caller's interpreter settings are not the children's.
    dropped = {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONUNBUFFERED": "1"}
