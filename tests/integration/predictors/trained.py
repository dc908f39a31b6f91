"""One session's trainings: `llmservice train` with real torch on tiny random models.

All runs share one process: loading torch takes longer than training these models.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmservice_lab.engine.environment import ensure_engine_python
from llmservice_lab.predictors.proxies.options import HEADS

HERE: Final = Path(__file__).parent
LONG: Final = "write a long essay on"
SHORT: Final = "what is the number of"
QUICK: Final = {"--epochs": "6", "--max-tokens": "16", "--learning-rate": "5e-3"}
REFUSED: Final = {
    "a base that does not exist": ({"--base": "./nowhere"}, "nowhere"),
    "no layer left to train": ({"--freeze-layers": "2"}, "freeze_layers is 2"),
    "more tokens than the base reads": ({"--max-tokens": "128"}, "reads at most 64"),
}


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one `llmservice train`."""

    out: Path
    code: int
    stdout: str
    stderr: str


def train_all(home: Path) -> Mapping[str, Run]:
    """Runs by name: every head, a decoder, an interrupted run and what follows it, refused ones."""
    answers = _answers(home / "answers.jsonl")
    options: dict[str, dict[str, str]] = {head: {"--head": head} for head in HEADS}
    options["decoder"] = {"--head": "listmle", "--base": str(home / "opt"), "--freeze-layers": "1"}
    options |= {name: dict(changed) for name, (changed, _) in REFUSED.items()}
    common = {"--lengths": str(answers), "--base": str(home / "bert"), "--json": "-", **QUICK}
    commands: dict[str, dict[str, str]] = {
        name: common | {"--out": str(home / "out" / name)} | changed
        for name, changed in options.items()
    }
    interrupted = {"--head": "log-t", "--out": str(home / "out" / "interrupted"), "--resume": ""}
    commands["resumed with another seed"] = common | interrupted | {"--seed": "2"}
    commands["resumed"] = common | interrupted
    results = _with_torch(
        {
            "bases": str(home),
            "interrupted": {
                "lengths": str(answers),
                "at_step": 20,
                "options": {
                    "head": "log-t",
                    "base": str(home / "bert"),
                    "out": str(home / "out" / "interrupted"),
                    "epochs": 6,
                    "max_tokens": 16,
                    "learning_rate": 5e-3,
                },
            },
            "commands": [
                ["train", *(word for pair in command.items() for word in pair if word)]
                for command in commands.values()
            ],
        }
    )
    outs = {"interrupted": interrupted["--out"]} | {n: c["--out"] for n, c in commands.items()}
    return {
        name: Run(Path(out), **result)
        for (name, out), result in zip(outs.items(), results, strict=True)
    }


def _with_torch(wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    python = ensure_engine_python(log=print)
    (site,) = python.parents[1].glob("lib/python3*/site-packages")
    done = subprocess.run(
        [sys.executable, str(HERE / "with_torch.py"), str(site)],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _answers(path: Path) -> Path:
    """400 prompts: essays are answered twenty times as long as questions."""
    rng = random.Random(1)
    with path.open("w") as lines:
        for index in range(400):
            opening, tokens = rng.choice([(LONG, 400), (SHORT, 20)])
            row = {
                "prompt": f"{opening} {index * 7919:x}",
                "output_tokens": round(tokens * 2 ** rng.gauss(0, 0.5)),
                "split": ("train", "train", "val", "test")[index % 4],
            }
            lines.write(json.dumps(row) + "\n")
    return path
