"""Simulated runs on vLLM's engine core, inside the engine's environment: the child's side.

Reads pickled setups from standard input and answers with pickled messages on what was standard
output: an int is progress, a list the records, an exception an error. Everything that vLLM prints
goes to standard error.
"""

# pyright: basic
# vllm exists in the engine's environment only.

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from llmservice_sidecar.core.policy import SlicingPolicy

from llmservice_lab.simulator import Setup, drive
from llmservice_lab.vllm_engine import VllmEngine, sizes_of

# News for a person, not for a program: a message per step would cost as much as the step.
_NEWS_EVERY: Final = 50


def main() -> None:
    """Serve until the parent closes its end."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with tempfile.TemporaryDirectory(prefix="llmservice-sim-") as directory:
        while True:
            try:
                setup = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by our own parent
            except EOFError:
                return
            try:
                answer: object = _run(setup, Path(directory), answers)
            except ValueError as error:
                answer = error
            _send(answers, answer)


def _run(setup: Setup, directory: Path, answers: BinaryIO) -> Any:
    told = 0

    def on_ended(ended: int) -> None:
        nonlocal told
        if ended >= told + _NEWS_EVERY:
            told = ended
            _send(answers, ended)

    engine = VllmEngine(
        setup.costs,
        slots=setup.slots,
        sizes=sizes_of([(row.prompt_tokens, row.output_tokens) for row in setup.rows]),
        directory=directory,
        options=replace(setup.options, prefix_caching=_needs_prefix_cache(setup)),
    )
    try:
        return drive(replace(setup, on_ended=on_ended), engine)
    finally:
        engine.close()


def _needs_prefix_cache(setup: Setup) -> bool:
    """Can anything be found there? Where not, a seventh of the time is saved by not looking."""
    options = setup.options
    return options.prefix_caching and (
        options.kv_tokens is not None  # what is preempted comes back
        or options.scheduler_class is not None
        or isinstance(setup.policy, SlicingPolicy)
        or any(row.cached_tokens for row in setup.rows)
    )


def _send(answers: BinaryIO, answer: object) -> None:
    pickle.dump(answer, answers)
    answers.flush()


if __name__ == "__main__":
    main()
