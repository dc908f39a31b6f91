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
_ANNOUNCEMENT: Final = b'{"http_port"'
_LINE_LIMIT_BYTES: Final = 1 << 20


class ChildProcess:
    """One running process: its output goes to a log file, line by line.

    `announced` resolves to the first line of output that starts as the sidecar's ports do.
    """

    def __init__(self, plan: ProcessPlan, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = plan.name
        self.log = log
        self.announced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._process = process
        self._copying = asyncio.create_task(self._copy_output())

    @classmethod
    async def start(cls, plan: ProcessPlan, *, log: Path, extra: Mapping[str, str]) -> Self:
        """Start `plan` in a session of its own; `extra` joins its environment."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "llmservice_local.child", str(os.getpid()), *plan.command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_inherited() | dict(plan.environment) | dict(extra),
            # Ctrl-C must reach the parent only: it drains before it ends its children.
            start_new_session=True,
            limit=_LINE_LIMIT_BYTES,
        )
        return cls(plan, process, log)

    @property
    def ended(self) -> bool:
        """It has an exit code."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Its exit code, once it has ended and all its output is in the log."""
        # Shielded: who stops waiting must not stop the copying.
        await asyncio.shield(self._copying)
        return await self._process.wait()

    async def stop(self, number: signal.Signals, *, grace_s: float) -> None:
        """Signal its process group, SIGKILL after `grace_s`; twice is once."""
        if not self.ended:
            self._signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_s)
        # Also when it has ended: a child of its own may be left of the group.
        self._signal(signal.SIGKILL)
        await self._process.wait()
        await self._copying

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

    async def _copy_output(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with self.log.open("ab") as log:
            async for line in stream:
                log.write(line)
                log.flush()
                if line.startswith(_ANNOUNCEMENT) and not self.announced.done():
                    self.announced.set_result(line.decode())

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of it has ended: what the signal is for
            os.killpg(self._process.pid, number)


def _inherited() -> dict[str, str]:
    # The caller's interpreter settings are not the children's.
    dropped = {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONUNBUFFERED": "1"}
