"""What can be chosen about training a proxy. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

# Where each head comes from; see docs/training.md.
HEADS: Final = {
    "regression-l1": "SSJF: tokens, absolute error (arXiv 2404.08509)",
    "regression-mse": "SSJF: tokens, squared error (arXiv 2404.08509)",
    "multiclass": "SSJF: five classes of length (arXiv 2404.08509)",
    "ordinal": "SSJF: five ordered classes, cumulative (arXiv 2404.08509)",
    "listmle": "LTR: likelihood of the right order of a list (arXiv 2408.15792)",
    "pairwise-margin": "PARS: margin between pairs 20 % apart (arXiv 2510.03243)",
    "log-t": "TIE: Student-t of ln tokens, nu 3.5 (arXiv 2604.00499)",
    "retrieval": "ALISE: nearest remembered prompts, else an MLP (arXiv 2410.23537)",
}
TOKENS: Final = (16, 512)
DEVICES: Final = ("auto", "cpu", "cuda")

OnProgress = Callable[[str, int, int, str], None]  # stage, its steps done and in all, remark


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """One training run. `base` is a Hugging Face id or a directory; `epochs` is an upper bound.

    `freeze_layers` counts from the bottom; -1 freezes the whole encoder, so that only the head
    learns. `max_tokens` of a prompt are read, special ones included.
    """

    head: str
    base: str
    out: Path
    epochs: int = 6
    max_tokens: int = 128
    freeze_layers: int = 0
    seed: int = 1
    device: str = "auto"
    batch: int = 32
    learning_rate: float = 5e-5
    patience: int = 2
    resume: bool = False

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f"head is {self.head!r}; allowed: {', '.join(HEADS)}")
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device!r}; allowed: {', '.join(DEVICES)}")
        if not TOKENS[0] <= self.max_tokens <= TOKENS[1]:
            raise ValueError(
                f"max_tokens is {self.max_tokens}; allowed: {TOKENS[0]} to {TOKENS[1]}"
            )
        if self.epochs < 1 or self.batch < 2 or self.patience < 1 or self.freeze_layers < -1:
            raise ValueError(
                f"epochs {self.epochs}, batch {self.batch}, patience {self.patience}, "
                f"freeze_layers {self.freeze_layers}; allowed: at least 1, 2, 1 and -1"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is {self.learning_rate}; allowed: above 0")

    def identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one that it goes on from."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in {"out", "resume", "device", "epochs", "patience"}
        }
