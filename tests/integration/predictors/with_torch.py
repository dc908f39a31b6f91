"""Runs commands of ours with torch from elsewhere, all in one process: `with_torch.py SITE`.

What is installed for us goes first; torch and transformers come from the engine's environment,
which every checkout that runs the tests has, so that they are not installed twice. Argument lists
of `llmservice` come as JSON on standard input, what became of them goes to standard output.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock


def run(arguments: list[str]) -> dict[str, object]:
    """One command: its exit code and what it printed."""
    from llmservice_local.cli import main  # noqa: PLC0415 - torch is on the path by now

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err), mock.patch("sys.argv", ["x", *arguments]):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return {"code": code or 0, "stdout": out.getvalue(), "stderr": err.getvalue()}


def interrupt(options: dict[str, Any], *, lengths: str, at_step: int) -> dict[str, object]:
    """Train until a step and leave what a person's Ctrl-C leaves."""
    from llmservice_lab.predictors.proxies.material import read_material  # noqa: PLC0415 - as above
    from llmservice_lab.predictors.proxies.options import TrainOptions  # noqa: PLC0415
    from llmservice_lab.predictors.proxies.run import train_proxy  # noqa: PLC0415

    def on_progress(stage: str, done: int, total: int, remark: str) -> None:
        if stage == "training" and done >= at_step:
            raise KeyboardInterrupt

    chosen = TrainOptions(out=Path(options.pop("out")), **options)
    try:
        train_proxy(read_material(Path(lengths)), chosen, on_progress=on_progress)
    except KeyboardInterrupt:
        return {"code": 130, "stdout": "", "stderr": ""}
    return {"code": 0, "stdout": "", "stderr": "ended before it was interrupted"}


if __name__ == "__main__":
    sys.path += [sys.argv[1], str(Path(__file__).parent)]
    import tiny_bases

    wanted = json.load(sys.stdin)
    tiny_bases.make(Path(wanted["bases"]))
    results = [interrupt(**wanted["interrupted"]), *map(run, wanted["commands"])]
    print(json.dumps(results))
