"""Simulated runs on vLLM's engine core: re-executed in the engine's environment, records back.

Only the run itself moves: workload, predictor and policy are made here and pickled, so that the
engine's environment needs nothing of ours but the sources.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, cast

import llmservice_api

from llmservice_lab.engine.cpu import engine_environment
from llmservice_lab.engine.environment import EngineEnvironmentError, ensure_engine_python
from llmservice_lab.results import RequestRecord
from llmservice_lab.simulator import Setup

# Where our packages lie: the predictor that learns during a run reads its settings' types.
_SOURCES: Final = (Path(__file__).parents[1], Path(llmservice_api.__file__).parents[1])
_LOG_LINES: Final = 15


class VllmSimulator:
    """Runs setups in a child process that lives from `with` to its end.

    The first use installs vLLM. Raises EngineEnvironmentError.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        python = ensure_engine_python(log=lambda text: print(text, file=sys.stderr))
        self._log = tempfile.TemporaryFile(prefix="llmservice-sim-vllm-")
        self._child = subprocess.Popen(  # noqa: S603 - a fixed command line
            [str(python), "-m", "llmservice_lab.vllm_engine_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._child is not None
        assert self._log is not None
        # Nothing of an interrupted run is worth waiting for.
        self._child.kill()
        self._child.communicate()
        self._log.close()

    def simulate(self, setup: Setup) -> list[RequestRecord]:
        """As `simulator.simulate`, on vLLM's scheduler.

        Raises ValueError for what cannot be run and EngineEnvironmentError when vLLM failed.
        """
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            pickle.dump(replace(setup, on_ended=None), self._child.stdin)
            self._child.stdin.flush()
            while True:
                answer: object = pickle.load(self._child.stdout)  # noqa: S301 - by our own child
                if isinstance(answer, int):
                    if setup.on_ended is not None:
                        setup.on_ended(answer)
                elif isinstance(answer, ValueError):
                    raise answer
                else:
                    break
        except (EOFError, BrokenPipeError) as error:
            raise EngineEnvironmentError(f"vLLM's simulation ended:\n{self._log_tail()}") from error
        if setup.on_ended is not None:
            setup.on_ended(len(setup.rows))
        return cast("list[RequestRecord]", answer)

    def _log_tail(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])


def _environment() -> dict[str, str]:
    # Same numbers in every process, and of vLLM's log only what went wrong.
    ours = {"PYTHONHASHSEED": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    return engine_environment(_SOURCES) | ours
