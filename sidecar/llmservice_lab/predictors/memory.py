"""Memory that a predictor takes: resident size of a fresh process that has it and does no more."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from llmservice_lab.predictors.asking import BatchPredictor
from llmservice_lab.pretrain import query_for

PROMPTS: Final = 20


def resident_mib(make: Callable[[], BatchPredictor]) -> float:
    """MiB of a new interpreter after it has made the predictor and asked it of 20 prompts.

    `make` must be picklable. Raises subprocess.CalledProcessError when it fails there.
    """
    done = subprocess.run(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-m", __name__], input=pickle.dumps(make), capture_output=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """In the new process: print its resident size in MiB."""
    # From the parent process alone, as multiprocessing sends its work.
    make: Callable[[], BatchPredictor] = pickle.load(sys.stdin.buffer)  # noqa: S301
    predictor = make()
    for number in range(PROMPTS):
        predictor.predict_batch([query_for(f"Write {number} sentences about tea.", model="m")])
    status = Path("/proc/self/status").read_text()
    resident_kib = next(line.split()[1] for line in status.splitlines() if "VmRSS" in line)
    print(int(resident_kib) / 1024)


if __name__ == "__main__":
    main()
